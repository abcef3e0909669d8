package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"golang.org/x/text/unicode/norm"
)

// maxFile bounds how much is read of any file. No configuration or secret comes near it, and HCL's parser, which recurses
// without bounds, cannot exhaust the stack on so little.
const maxFile = 32 << 10

// functions returns the functions that an expression may call. Each notes in l.via where its result came from.
func (l *loader) functions() *hcl.EvalContext {
	fn := func(name string, read func(string) (string, error)) function.Function {
		return function.New(&function.Spec{
			Params: []function.Parameter{{Name: "name", Type: cty.String}},
			Type:   function.StaticReturnType(cty.String),
			Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
				arg := args[0].AsString()
				l.via = append(l.via, name+"("+strconv.Quote(arg)+")")
				got, err := read(arg)
				if err == nil {
					got, err = asText(got)
				}
				if err != nil {
					return cty.NilVal, fmt.Errorf("%s(%q): %w", name, arg, err)
				}
				return cty.StringVal(got), nil
			},
		})
	}
	return &hcl.EvalContext{Functions: map[string]function.Function{
		"env":        fn("env", l.readEnv),
		"file":       fn("file", readSecret),
		"credential": fn("credential", l.readCredential),
	}}
}

// asText makes content fit into an HCL string, which is normalized Unicode: a raw key of 32 bytes becomes base64, which
// a static seal can read.
func asText(s string) (string, error) {
	switch {
	case norm.NFC.IsNormalString(s) && strings.ToValidUTF8(s, "") == s:
		return s, nil
	case len(s) == 32:
		return base64.StdEncoding.EncodeToString([]byte(s)), nil
	}
	return "", errors.New("it holds bytes that are not text")
}

func (l *loader) readEnv(name string) (string, error) {
	v, ok := l.lookup(name)
	if !ok {
		return "", errors.New("this variable is not set")
	}
	return v, nil
}

// lookup reads a variable; an empty one counts as unset.
func (l *loader) lookup(name string) (string, bool) {
	if l.env == nil {
		return "", false
	}
	v, _ := l.env(name)
	return v, v != ""
}

func (l *loader) readCredential(name string) (string, error) {
	dir, ok := l.lookup("CREDENTIALS_DIRECTORY")
	if !ok {
		return "", fmt.Errorf("CREDENTIALS_DIRECTORY is not set: credentials come from systemd, write LoadCredential=%s:/path in the unit", name)
	}
	if name == "" || name != filepath.Base(name) || name == ".." || name == "." {
		return "", errors.New("a credential's name is no path: write file(\"/path\") for a file")
	}
	return readSecret(filepath.Join(dir, name))
}

// readSecret reads a regular file that is not empty.
func readSecret(path string) (string, error) {
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("%q must be an absolute path", path)
	}
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		return "", err
	}
	b, err := readFile(path)
	if err == nil && len(b) == 0 {
		err = fmt.Errorf("%s is empty", path)
	}
	return string(b), err
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s is larger than 32 KiB", path)
	}
	return b, err
}

// resolve follows env:// and file://, removes one newline from the end, normalizes booleans and numbers, and checks the
// result. It also returns what is wrong, or "".
func (l *loader) resolve(s setting, v value) (value, string) {
	v, why := l.follow(s, v)
	if v.via != "" { // a value read from elsewhere may be a secret in the wrong place
		why = strings.ReplaceAll(why, strconv.Quote(v.text), "the value")
	}
	return v, why
}

func (l *loader) follow(s setting, v value) (value, string) {
	if s.indirect {
		var err error
		if name, ok := strings.CutPrefix(v.text, "env://"); ok {
			v.via = v.text
			if v.text, err = l.readEnv(name); err != nil {
				return v, fmt.Sprintf("%s: %v", v.via, err)
			}
		} else if path, ok := strings.CutPrefix(v.text, "file://"); ok && !s.secret {
			v.text = path // the setting is a path already
		} else if ok {
			v.via = v.text
			if v.text, err = readSecret(path); err != nil {
				return v, "reading the secret: " + err.Error()
			}
		}
	}
	if !s.raw || len(v.text) != 32 {
		if line, ok := strings.CutSuffix(v.text, "\n"); ok {
			v.text = strings.TrimSuffix(line, "\r")
		}
	}
	if v.text == "" {
		return v, "the value is empty"
	}
	if s.alias != nil {
		v.text = strings.ToLower(v.text)
		if word, ok := s.alias[v.text]; ok {
			v.text = word
		}
	}
	switch s.kind {
	case boolean:
		b, err := strconv.ParseBool(v.text)
		if err != nil {
			return v, fmt.Sprintf("%q is neither true nor false", v.text)
		}
		v.text = strconv.FormatBool(b)
	case number:
		n, err := strconv.ParseInt(v.text, 10, 64)
		if err != nil || n < 0 {
			return v, fmt.Sprintf("%q is no whole number of 0 or more", v.text)
		}
		v.text = strconv.FormatInt(n, 10)
	}
	if !s.raw && strings.ContainsFunc(v.text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return v, "there is a line break or another control character in it: write one line"
	}
	if s.check != nil {
		if why := s.check(v.text); why != "" {
			return v, why
		}
	}
	return v, ""
}

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// dataHelp is the part of the help text about data arguments.
const dataHelp = `
Data is given as KEY=VALUE, KEY=@FILE (the content of a file), KEY=- (standard input), @FILE (a JSON object in a
file) or - (a JSON object on standard input). KEY=\@VALUE is a value that begins with @.`

// maxInput bounds what is read as data: more than any server takes.
const maxInput = 32 << 20

// source names the source of an argument for errors.
func source(file string) string {
	if file == "-" {
		return "standard input"
	}
	return file
}

// data reads the data arguments. A key given several times becomes a list, as in Vault.
func (c *cli) data(args []string) (object, error) {
	data := object{}
	stdin := false
	read := func(file string) (b []byte, err error) {
		var in io.Reader
		if file != "-" {
			f, err := os.Open(file)
			if err != nil {
				return nil, fmt.Errorf("reading data: %w", err)
			}
			defer f.Close()
			in = f
		} else if stdin {
			return nil, errors.New("reading data: standard input can be used once")
		} else {
			in, stdin = c.input(), true
		}
		if b, err = io.ReadAll(io.LimitReader(in, maxInput+1)); err == nil && len(b) > maxInput {
			err = fmt.Errorf("more than %d bytes", maxInput)
		}
		if err != nil {
			return nil, fmt.Errorf("reading data from %s: %w", source(file), err)
		}
		return b, nil
	}
	for _, arg := range args {
		key, value, pair := strings.Cut(arg, "=")
		if file, ok := strings.CutPrefix(arg, "@"); ok || arg == "-" {
			if !ok {
				file = "-"
			}
			b, err := read(file)
			if err != nil {
				return nil, err
			}
			var more object
			d := json.NewDecoder(bytes.NewReader(b))
			d.UseNumber()
			if err := d.Decode(&more); err != nil {
				return nil, hint(fmt.Errorf("reading data from %s: %w", source(file), err), `it must be one JSON object, like {"user": "alice"}`)
			}
			if _, err := d.Token(); err != io.EOF || more == nil {
				return nil, hint(fmt.Errorf("reading data from %s: not one JSON object", source(file)), `write one JSON object, like {"user": "alice"}`)
			}
			for k, v := range more {
				data.add(k, v)
			}
			continue
		}
		if !pair || key == "" {
			// The argument itself may be a secret: it is not repeated.
			return nil, hint(fmt.Errorf("a data argument is not of the form KEY=VALUE"), "write KEY=VALUE, KEY=@FILE, @FILE.json or -")
		}
		if file, ok := strings.CutPrefix(value, "@"); ok || value == "-" {
			if !ok {
				file = "-"
			}
			b, err := read(file)
			if err != nil {
				return nil, err
			}
			value = string(b)
		} else if strings.HasPrefix(value, `\@`) {
			value = value[1:]
		}
		data.add(key, value)
	}
	return data, nil
}

func (o object) add(key string, value any) {
	switch old := o[key].(type) {
	case nil:
		o[key] = value
	case []any:
		o[key] = append(old, value)
	default:
		o[key] = []any{old, value}
	}
}

// pairs is a repeatable flag KEY=VALUE.
type pairs map[string]string

func (p pairs) String() string { return "" }

func (p pairs) Set(s string) error {
	k, v, ok := strings.Cut(s, "=")
	if !ok || k == "" {
		return errors.New("write KEY=VALUE")
	}
	p[k] = v
	return nil
}

// list is a repeatable flag; each value is taken as it is.
type list []string

func (l *list) String() string { return "" }

func (l *list) Set(s string) error { *l = append(*l, s); return nil }

// paths is a list of files.
type paths = list

// versions is a list of version numbers.
type versions []int

func (v *versions) String() string { return "" }

func (v *versions) Set(s string) error {
	for n := range strings.SplitSeq(s, ",") {
		i, err := strconv.Atoi(strings.TrimSpace(n))
		if err != nil || i < 1 {
			return errors.New("version numbers are 1 and up, with commas between them")
		}
		*v = append(*v, i)
	}
	return nil
}

package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

func loginCommands() []command {
	return []command{{"login", "[TOKEN | KEY=VALUE...]", 0, -1, client, "log in and remember the token", loginHelp(), login}}
}

// A loginMethod says what a login by a method takes. Its keys are the fields of the request, or "username", which is part
// of the path.
type loginMethod struct {
	name     string
	required []string
	optional []string
	secret   string // asked for if not given
	what     string
}

var loginMethods = []loginMethod{
	{"approle", []string{"role_id"}, []string{"secret_id"}, "", "a role ID and a secret ID, of a machine"},
	{"userpass", []string{"username"}, []string{"password"}, "password", "a name and a password, which is asked for if not given"},
	{"jwt", []string{"jwt"}, []string{"role"}, "", "a JSON web token, such as a CI system has"},
	{"cert", nil, []string{"name"}, "", "a client certificate: -client-cert, -client-key"},
	{"peer", []string{"role"}, nil, "", "who runs this command, on a unix socket: -address=unix://..."},
}

func loginHelp() string {
	var b strings.Builder
	b.WriteString(`Logs in and writes the token to ~/.vault-token, where the other commands find it; VAULT_TOKEN wins over that. Without
-method it checks a token of yours, which is asked for, or read from standard input when TOKEN is -. The other methods
take KEY=VALUE, KEY=@FILE or KEY=- (standard input):
`)
	for _, m := range loginMethods {
		keys := slices.Clone(m.required)
		for _, key := range m.optional {
			keys = append(keys, "["+key+"]")
		}
		fmt.Fprintf(&b, "\n    %-10s %-24s %s", m.name, strings.Join(keys, " "), m.what)
	}
	return b.String()
}

func login(f *flag.FlagSet) action {
	method := f.String("method", "token", "`method` of login")
	path := f.String("path", "", "`path` at which the method is enabled, below auth/ (default: its name)")
	field := f.String("field", "", "print only the field with this `name`")
	noStore := f.Bool("no-store", false, "do not write ~/.vault-token")
	noPrint := f.Bool("no-print", false, "print nothing about the token")
	tokenOnly := f.Bool("token-only", false, "the same as -no-store -field=token")
	return func(c *cli, args []string) error {
		if *tokenOnly {
			*noStore, *field = true, "token"
		}
		if !*noStore && c.home() == "" {
			return hint(errors.New("HOME is not set: the token cannot be stored"), "use VAULT_TOKEN, or -no-store to only see the token")
		}
		var b []byte
		var shown object
		var err error
		if *method == "token" {
			b, shown, err = c.loginByToken(args)
		} else {
			b, shown, err = c.loginBy(*method, *path, args)
		}
		if err != nil {
			return err
		}
		token, _ := shown["token"].(string)
		if token == "" {
			return coded{errors.New("the answer of the login has no token"), 2}
		}
		if !*noStore {
			if err := writeFile(c.tokenFile(), token, 0o600); err != nil {
				return fmt.Errorf("storing the token: %w", err)
			}
			if c.env("TOKEN") != "" {
				c.warnf("VAULT_TOKEN (or BAO_TOKEN) is set and wins over the token that was stored: unset it")
			}
		}
		asJSON, _ := c.asJSON()
		switch {
		case *noPrint:
			return nil
		case *field != "":
			return c.printField(shown, *field)
		case asJSON:
			return c.printJSON(b)
		}
		where := "The token is in " + c.tokenFile() + ", where the other commands find it."
		if *noStore {
			where = "The token was not stored."
		}
		fmt.Fprintf(c.stdout, "Success! You are logged in. %s\n\n", where)
		c.printMap(shown)
		return nil
	}
}

// loginByToken looks up a token, and returns the answer and the fields of it to show.
func (c *cli) loginByToken(args []string) ([]byte, object, error) {
	if len(args) > 1 {
		return nil, nil, hint(errors.New("login: too many arguments"), "usage: sealkeep login TOKEN, or sealkeep login -method=METHOD KEY=VALUE...")
	}
	token, err := c.readToken(args)
	if err != nil {
		return nil, nil, err
	}
	c.remote.token = token
	a, err := c.api()
	if err != nil {
		return nil, nil, err
	}
	b, err := a.plain().do(c, http.MethodGet, "auth/token/lookup-self", nil, nil)
	if err != nil {
		return nil, nil, err
	}
	var s secret
	if err := decode(b, &s); err != nil {
		return nil, nil, err
	}
	c.warnings(s)
	return b, object{"token": token, "token_accessor": s.Data["accessor"], "token_duration": s.Data["ttl"],
		"token_renewable": s.Data["renewable"], "token_policies": s.Data["policies"]}, nil
}

// loginBy logs in by a method, and returns the answer and the fields of it to show.
func (c *cli) loginBy(method, path string, args []string) ([]byte, object, error) {
	i := slices.IndexFunc(loginMethods, func(m loginMethod) bool { return m.name == method })
	if i < 0 {
		return nil, nil, hint(fmt.Errorf("the login method %q does not exist here", method), "sealkeep help login lists the methods; -path says where one is enabled")
	}
	m := loginMethods[i]
	data, err := c.data(args)
	if err != nil {
		return nil, nil, err
	}
	if mount, ok := data["mount"].(string); ok && path == "" { // Vault's older way to say it
		path = mount
	}
	delete(data, "mount")
	known := slices.Concat(m.required, m.optional)
	for key, value := range data {
		if !slices.Contains(known, key) {
			return nil, nil, hint(fmt.Errorf("the login method %s does not take %q", method, key), "it takes %s", strings.Join(known, ", "))
		}
		if text, ok := value.(string); ok {
			data[key] = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r") // of a value read from a file
		}
	}
	for _, key := range m.required {
		if value, _ := data[key].(string); value == "" {
			return nil, nil, hint(fmt.Errorf("the login method %s needs %s", method, key), "write %s=VALUE after the flags", key)
		}
	}
	if m.secret != "" && data[m.secret] == nil {
		if _, terminal := c.terminal(); !terminal {
			return nil, nil, hint(fmt.Errorf("no %s is given, and there is no terminal to ask on", m.secret), "write %s=- to read it from standard input", m.secret)
		}
		if data[m.secret], err = c.readLine("Password"); err != nil {
			return nil, nil, fmt.Errorf("reading the %s: %w", m.secret, err)
		}
	}
	a, err := c.api()
	if err != nil {
		return nil, nil, err
	}
	a.token = "" // an old token has nothing to do with this login
	path = "auth/" + strings.Trim(cmp.Or(strings.TrimPrefix(path, "auth/"), method), "/") + "/login"
	if name, ok := data["username"].(string); ok {
		path += "/" + name
		delete(data, "username")
	}
	b, err := a.do(c, http.MethodPost, path, nil, data)
	if err != nil {
		return nil, nil, err
	}
	var s secret
	if err := decode(b, &s); err != nil {
		return nil, nil, err
	}
	c.warnings(s)
	shown := s.authFields()
	if meta, ok := s.Auth["metadata"].(map[string]any); ok {
		for k, v := range meta {
			shown["token_meta_"+k] = v
		}
	}
	return b, shown, nil
}

// maxToken bounds what is read as a token or a password, in bytes.
const maxToken = 4096

// readToken takes the token from the argument, from standard input (-) or from a hidden prompt.
func (c *cli) readToken(args []string) (string, error) {
	if len(args) == 1 && args[0] != "-" {
		return strings.TrimPrefix(args[0], "token="), nil
	}
	if _, terminal := c.terminal(); !terminal && len(args) == 0 {
		return "", hint(errors.New("no token is given, and there is no terminal to ask on"), "sealkeep login - reads it from standard input")
	}
	token, err := c.readLine("Token")
	if err != nil {
		return "", fmt.Errorf("reading the token: %w", err)
	}
	if token = strings.TrimSpace(token); token == "" {
		return "", errors.New("the token is empty")
	}
	return token, nil
}

package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

func genericCommands() []command {
	return []command{
		{"read", "PATH [KEY=VALUE...]", 1, -1, client, "read any path of the API", "Reads a path of the API, such as secret/config; KEY=VALUE becomes a query parameter. An answer that is a text or a file, such as that of sys/metrics, is printed as it is; with -format=json a text is a JSON string.", genericRead},
		{"write", "PATH [DATA...]", 1, -1, client, "write any path of the API", "Writes a path of the API, such as secret/config. Without data it needs -force.\n" + dataHelp, genericWrite},
		{"list", "PATH", 1, 1, client, "list any path of the API", "Lists the names beneath a path of the API, such as secret/metadata.", genericList("LIST")},
		{"scan", "PATH", 1, 1, client, "list all that is beneath a path of the API", "Lists the names beneath a path of the API, such as secret/metadata, and in all folders in it.", genericList("SCAN")},
		{"delete", "PATH", 1, 1, client, "delete any path of the API", "Deletes a path of the API.", genericDelete},
		{"path-help", "PATH", 1, 1, client, "say what a path of the API is for", "Says what a path of the API is for, and what it takes; of a mount's path, such as secret, which paths it has. With -format=json the answer has an OpenAPI document, too.", pathHelp},
	}
}

func genericRead(f *flag.FlagSet) action {
	field := f.String("field", "", "print only the field with this `name`")
	return func(c *cli, args []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		data, err := c.data(args[1:])
		if err != nil {
			return err
		}
		query := url.Values{}
		for k, v := range data {
			if several, ok := v.([]any); ok {
				for _, v := range several {
					query.Add(k, text(v))
				}
				continue
			}
			query.Set(k, text(v))
		}
		b, kind, err := a.send(c, http.MethodGet, args[0], query, nil)
		if notFound(err) || err == nil && len(b) == 0 {
			return coded{fmt.Errorf("no value found at %s", args[0]), 2}
		}
		if err != nil {
			return err
		}
		if strings.HasPrefix(kind, "text/plain") || kind == "application/octet-stream" {
			return c.printText(b, *field)
		}
		return c.answer(b, *field, "")
	}
}

// printText prints an answer that is no JSON, such as that of sys/metrics, as it came.
func (c *cli) printText(b []byte, field string) error {
	asJSON, err := c.asJSON()
	switch {
	case err != nil:
		return err
	case field != "":
		return fmt.Errorf("there is no field %q: the answer is a text, not JSON", field)
	case asJSON && !utf8.Valid(b):
		return hint(errors.New("the answer is binary, which JSON cannot hold"), "leave out -format, and send the output to a file")
	case asJSON:
		return c.printValue(string(b))
	}
	_, err = c.stdout.Write(b)
	return err
}

func genericWrite(f *flag.FlagSet) action {
	field := f.String("field", "", "print only the field with this `name`")
	force := f.Bool("force", false, "write without any data")
	f.BoolVar(force, "f", false, "the same as -force")
	return func(c *cli, args []string) error {
		if len(args) == 1 && !*force {
			return hint(errors.New("no data is given"), "write KEY=VALUE after the path, or use -force to send none")
		}
		a, err := c.api()
		if err != nil {
			return err
		}
		data, err := c.data(args[1:])
		if err != nil {
			return err
		}
		if args[0] == "sys/wrapping/wrap" {
			a.wrapTTL = cmp.Or(a.wrapTTL, "5m") // as Vault's command does
		}
		b, err := a.do(c, http.MethodPut, args[0], nil, data)
		if err != nil {
			return err
		}
		return c.answer(b, *field, "Success! Data written to: "+args[0])
	}
}

func genericList(method string) func(*flag.FlagSet) action {
	return func(*flag.FlagSet) action {
		return func(c *cli, args []string) error {
			a, err := c.api()
			if err != nil {
				return err
			}
			return c.list(a, method, args[0])
		}
	}
}

func genericDelete(*flag.FlagSet) action {
	return func(c *cli, args []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		b, err := a.do(c, http.MethodDelete, args[0], nil, nil)
		if s, bad := decodeSecret(b); err == nil && len(b) > 0 && bad == nil {
			c.warnings(s)
		}
		return c.done(err, "Success! Data deleted (if it existed) at: "+args[0])
	}
}

func pathHelp(*flag.FlagSet) action {
	return func(c *cli, args []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		b, err := a.do(c, http.MethodGet, args[0], url.Values{"help": {"1"}}, nil)
		if err != nil {
			return err
		}
		if asJSON, err := c.asJSON(); err != nil || asJSON {
			if err != nil {
				return err
			}
			return c.printJSON(b)
		}
		var answer struct {
			Help string `json:"help"`
		}
		if err := decode(b, &answer); err != nil {
			return err
		}
		_, err = fmt.Fprint(c.stdout, answer.Help)
		return err
	}
}

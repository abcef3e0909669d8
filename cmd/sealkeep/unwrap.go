package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
)

func wrappingCommands() []command {
	return []command{{"unwrap", "[TOKEN]", 0, 1, client, "have an answer that was wrapped",
		`Prints the answer that a wrapping token stands for, once: any command with -wrap-ttl makes such a token. Without TOKEN
your own token is the one. When it is refused somebody else may have had the answer: see SECURITY.md.`, unwrap}}
}

func unwrap(f *flag.FlagSet) action {
	field := f.String("field", "", "print only the field with this `name`")
	return func(c *cli, args []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		a = a.plain()
		body := object{}
		switch {
		case len(args) == 0:
		case a.token == "":
			a.token = args[0]
		default:
			body["token"] = args[0]
		}
		b, err := a.do(c, http.MethodPost, "sys/wrapping/unwrap", nil, body)
		if err != nil {
			return err
		}
		return c.answer(b, *field, "Successfully unwrapped. There was no data in the wrapped secret.")
	}
}

// plain returns a copy of the client that asks for no wrapping, for answers that the command itself needs.
func (a *keepClient) plain() *keepClient {
	p := *a
	p.wrapTTL = ""
	return &p
}

// A wrapped is a wrapped answer. As an error, it ends the command that asked for it, whatever that would have printed.
type wrapped struct {
	info object
	body []byte
}

func (wrapped) Error() string { return "the answer is wrapped" }

// asWrapped returns a wrapped answer as an error, or nil if the answer is not wrapped.
func asWrapped(b []byte) error {
	var answer struct {
		WrapInfo object `json:"wrap_info"`
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if d.Decode(&answer) != nil || answer.WrapInfo == nil {
		return nil
	}
	return wrapped{answer.WrapInfo, b}
}

// printWrapped prints the wrapping token in Vault's words.
func (c *cli) printWrapped(w wrapped, field string) error {
	if asJSON, err := c.asJSON(); err != nil || asJSON && field == "" {
		if err != nil {
			return err
		}
		return c.printJSON(w.body)
	}
	data := object{}
	for ours, theirs := range map[string]string{"wrapping_token": "token", "wrapping_accessor": "accessor", "wrapping_token_ttl": "ttl",
		"wrapping_token_creation_time": "creation_time", "wrapping_token_creation_path": "creation_path", "wrapped_accessor": "wrapped_accessor"} {
		if v := w.info[theirs]; v != nil {
			data[ours] = v
		}
	}
	if field != "" {
		return c.printField(data, field)
	}
	c.printMap(data)
	return nil
}

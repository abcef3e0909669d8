package main

import (
	"errors"
	"flag"
	"fmt"
	"net/http"
	"strings"
)

func tokenCommands() []command {
	return []command{
		{"token create", "", 0, 0, client, "make a token", tokenCreateHelp, tokenCreate},
		{"token lookup", "[TOKEN|ACCESSOR]", 0, 1, client, "show what is known of a token", tokenLookupHelp, tokenLookup},
		{"token renew", "[TOKEN|ACCESSOR]", 0, 1, client, "let a token live on", tokenRenewHelp, tokenRenew},
		{"token revoke", "[TOKEN|ACCESSOR]", 0, 1, client, "end a token", tokenRevokeHelp, tokenRevoke},
		{"token capabilities", "[TOKEN|ACCESSOR] PATH", 1, 2, client, "show what a token may do on a path", tokenCapabilitiesHelp, tokenCapabilities},
	}
}

const (
	tokenCreateHelp = `Makes a token that is a child of your own: it has your policies or some of them, and ends when yours does. With
capability sudo on auth/token/create the new one may have any policies but root.`
	tokenLookupHelp       = "Shows what is known of your token, of the TOKEN, or, with -accessor, of the token with the ACCESSOR."
	tokenRenewHelp        = "Lets your token, the TOKEN or the one with the ACCESSOR live on from now, within its limits."
	tokenRevokeHelp       = "Ends the TOKEN, your own (-self) or the one with the ACCESSOR (-accessor), and every token that was made with it."
	tokenCapabilitiesHelp = "Shows what your token, the TOKEN or the one with the ACCESSOR may do on a PATH of the API."
)

// accessorFlag says that the argument is an accessor.
func accessorFlag(f *flag.FlagSet) *bool {
	return f.Bool("accessor", false, "the argument is an accessor")
}

// tokenTarget returns the end of the path and the body of a request about a token.
func tokenTarget(args []string, accessor bool) (suffix string, body object, err error) {
	switch {
	case len(args) == 0 && accessor:
		return "", nil, hint(errors.New("no accessor is given"), "write it after the flags")
	case len(args) == 0:
		return "-self", object{}, nil
	case accessor:
		return "-accessor", object{"accessor": args[0]}, nil
	}
	return "", object{"token": args[0]}, nil
}

func tokenCreate(f *flag.FlagSet) action {
	var policies list
	meta := pairs{}
	f.Var(&policies, "policy", "`name` of a policy that the token has; can be repeated (default: those of your own token)")
	f.Var(meta, "metadata", "`key=value` to note with the token; can be repeated")
	id := f.String("id", "", "`token` of your choice; takes sudo (default: a random one)")
	ttl := f.String("ttl", "", "`duration` it lives, such as 1h; can be renewed")
	maxTTL := f.String("explicit-max-ttl", "", "`duration` after which it ends whatever is renewed")
	period := f.String("period", "", "`duration` of each renewal of a token that has no other end; takes sudo")
	uses := f.Int("use-limit", 0, "`number` of requests that it is good for (default: any)")
	name := f.String("display-name", "", "`name` to show with it")
	kind := f.String("type", "service", "`type`: service is the only one")
	role := f.String("role", "", "`name` of the role to make it by")
	orphan := f.Bool("orphan", false, "it does not end with your own; takes sudo")
	renewable := f.Bool("renewable", true, "it can be renewed")
	noDefault := f.Bool("no-default-policy", false, "it does not have the policy default")
	field := f.String("field", "", "print only the field with this `name`")
	return func(c *cli, _ []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		body := object{"type": *kind, "renewable": *renewable, "no_parent": *orphan, "no_default_policy": *noDefault, "num_uses": *uses}
		for key, value := range map[string]string{"id": *id, "ttl": *ttl, "explicit_max_ttl": *maxTTL, "period": *period, "display_name": *name} {
			if value != "" {
				body[key] = value
			}
		}
		if len(policies) > 0 {
			body["policies"] = policies
		}
		if len(meta) > 0 {
			body["meta"] = meta
		}
		path := "auth/token/create"
		if *role != "" {
			path += "/" + *role
		}
		b, err := a.do(c, http.MethodPost, path, nil, body)
		if err != nil {
			return err
		}
		return c.answer(b, *field, "")
	}
}

func tokenLookup(f *flag.FlagSet) action {
	accessor := accessorFlag(f)
	field := f.String("field", "", "print only the field with this `name`")
	return func(c *cli, args []string) error {
		suffix, body, err := tokenTarget(args, *accessor)
		if err != nil {
			return err
		}
		a, err := c.api()
		if err != nil {
			return err
		}
		method := http.MethodPost
		if suffix == "-self" {
			method, body = http.MethodGet, nil // the policy default allows this
		}
		var payload any
		if body != nil {
			payload = body
		}
		b, err := a.do(c, method, "auth/token/lookup"+suffix, nil, payload)
		if err != nil {
			return err
		}
		return c.answer(b, *field, "")
	}
}

func tokenRenew(f *flag.FlagSet) action {
	accessor := accessorFlag(f)
	increment := f.String("increment", "", "`duration` to live from now on, such as 1h (default: what it was made for)")
	field := f.String("field", "", "print only the field with this `name`")
	f.StringVar(increment, "i", "", "the same as -increment")
	return func(c *cli, args []string) error {
		suffix, body, err := tokenTarget(args, *accessor)
		if err != nil {
			return err
		}
		if *increment != "" {
			body["increment"] = *increment
		}
		a, err := c.api()
		if err != nil {
			return err
		}
		b, err := a.do(c, http.MethodPost, "auth/token/renew"+suffix, nil, body)
		if err != nil {
			return err
		}
		return c.answer(b, *field, "")
	}
}

func tokenRevoke(f *flag.FlagSet) action {
	accessor := accessorFlag(f)
	self := f.Bool("self", false, "your own token")
	mode := f.String("mode", "", "`orphan`: the tokens made with it stay, as orphans; takes sudo")
	return func(c *cli, args []string) error {
		switch {
		case *self && (len(args) > 0 || *accessor):
			return hint(errors.New("-self is given with another token"), "write one of them")
		case !*self && len(args) == 0:
			return hint(errors.New("no token is given"), "write the TOKEN, -accessor ACCESSOR, or -self for your own")
		case *mode == "path":
			return hint(errors.New("-mode=path is not supported"), "revoke the token that made the others, or each by its accessor")
		case *mode != "" && *mode != "orphan":
			return hint(fmt.Errorf("unknown mode %q", *mode), "-mode is orphan, or left out")
		case *mode == "orphan" && (*self || *accessor):
			return hint(errors.New("-mode=orphan takes a token"), "write the TOKEN itself, without -self and -accessor")
		}
		suffix, body, err := tokenTarget(args, *accessor)
		if err != nil {
			return err
		}
		if *mode == "orphan" {
			suffix = "-orphan"
		}
		a, err := c.api()
		if err != nil {
			return err
		}
		b, err := a.do(c, http.MethodPost, "auth/token/revoke"+suffix, nil, body)
		if err != nil {
			return err
		}
		return c.answer(b, "", "Success! Revoked token (if it existed)")
	}
}

func tokenCapabilities(f *flag.FlagSet) action {
	accessor := accessorFlag(f)
	return func(c *cli, args []string) error {
		path := args[len(args)-1]
		suffix, body, err := tokenTarget(args[:len(args)-1], *accessor)
		if err != nil {
			return err
		}
		body["paths"] = []string{path}
		a, err := c.api()
		if err != nil {
			return err
		}
		b, err := a.do(c, http.MethodPost, "sys/capabilities"+suffix, nil, body)
		if err != nil {
			return err
		}
		var answer struct {
			Data struct {
				Capabilities []string `json:"capabilities"`
			} `json:"data"`
		}
		if err := decode(b, &answer); err != nil {
			return err
		}
		if asJSON, _ := c.asJSON(); asJSON {
			return c.printValue(answer.Data.Capabilities)
		}
		fmt.Fprintln(c.stdout, strings.Join(answer.Data.Capabilities, ", "))
		return nil
	}
}

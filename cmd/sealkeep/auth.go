package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"strings"

	"github.com/sealkeep/sealkeep/api"
)

func authCommands() []command {
	return []command{
		{"auth enable", "TYPE", 1, 1, client, "enable a login method", authEnableHelp + typeHelp(api.Login), authEnable},
		{"auth disable", "PATH", 1, 1, client, "disable a login method and end its tokens", "Disables the login method at PATH. Its roles and users are removed for good, and its tokens end at once.", authDisable},
		{"auth list", "", 0, 0, client, "list the login methods", "Lists the login methods that are enabled.", authList},
		{"auth tune", "PATH", 1, 1, client, "change a login method", "Changes the login method at PATH: what its tokens live by default and at most, and how it is shown.", authTune},
		{"auth move", "FROM TO", 2, 2, client, "give a login method another path", "Moves the login method at the path FROM to the path TO, with its roles and users; its tokens go on. Policies are not changed: they have to name the new path.", mountMove("auth/", "auth method")},
	}
}

const authEnableHelp = `Enables a login method of a TYPE. Its path is the type's name, or -path. Then write its roles or users:
sealkeep write auth/approle/role/NAME token_policies=...

`

// tuneFlags registers the flags common to enable and tune. The function that it returns gives their values.
func tuneFlags(f *flag.FlagSet) func() object {
	fields := map[string]*string{
		"description":        f.String("description", "", "`text` about the method, for people"),
		"default_lease_ttl":  f.String("default-lease-ttl", "", "`duration` that its tokens live where a role does not say"),
		"max_lease_ttl":      f.String("max-lease-ttl", "", "`duration` that they live at most, renewed or not"),
		"listing_visibility": f.String("listing-visibility", "", "`hidden` or unauth: whether everybody may see that it is there"),
		"token_type":         f.String("token-type", "", "`type` of its tokens: service is the only one"),
	}
	return func() object {
		body := object{}
		for name, value := range fields {
			if *value != "" {
				body[name] = *value
			}
		}
		return body
	}
}

func authEnable(f *flag.FlagSet) action {
	path := f.String("path", "", "`path` of the method; else the name of its type")
	config := tuneFlags(f)
	return func(c *cli, args []string) error {
		at := strings.Trim(cmp.Or(*path, args[0]), "/")
		a, err := c.api()
		if err != nil {
			return err
		}
		body := object{"type": args[0], "config": config()}
		if text := body["config"].(object)["description"]; text != nil {
			body["description"] = text
		}
		_, err = a.do(c, http.MethodPost, "sys/auth/"+at, nil, body)
		return c.done(err, fmt.Sprintf("Success! Enabled %s auth method at: %s/", args[0], at))
	}
}

func authDisable(*flag.FlagSet) action {
	return func(c *cli, args []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		at := strings.Trim(args[0], "/")
		_, err = a.do(c, http.MethodDelete, "sys/auth/"+at, nil, nil)
		return c.done(err, fmt.Sprintf("Success! Disabled the auth method (if it existed) at: %s/", at))
	}
}

func authList(f *flag.FlagSet) action {
	detailed := f.Bool("detailed", false, "show everything about them")
	return func(c *cli, _ []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		return c.listMounts(a, "sys/auth", *detailed)
	}
}

func authTune(f *flag.FlagSet) action {
	config := tuneFlags(f)
	return func(c *cli, args []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		body := config()
		if len(body) == 0 {
			return hint(errors.New("nothing to change is given"), "sealkeep help auth tune lists the flags")
		}
		at := strings.Trim(strings.TrimPrefix(args[0], "auth/"), "/")
		_, err = a.do(c, http.MethodPost, "sys/auth/"+at+"/tune", nil, body)
		return c.done(err, fmt.Sprintf("Success! Tuned the auth method at: %s/", at))
	}
}

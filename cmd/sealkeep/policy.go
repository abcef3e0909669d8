package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/hclwrite"

	"github.com/sealkeep/sealkeep/access"
)

func policyCommands() []command {
	return []command{
		{"policy write", "NAME FILE", 2, 2, client, "write a policy", "Writes the policy NAME from a file, or from standard input when FILE is -. It counts at once for every token that has it.", policyWrite},
		{"policy read", "NAME", 1, 1, client, "show a policy", "Shows the text of the policy NAME.", policyRead},
		{"policy list", "", 0, 0, client, "list the policies", "Lists the names of all policies.", policyList},
		{"policy delete", "NAME", 1, 1, client, "delete a policy", "Deletes the policy NAME. Tokens keep its name, which then allows nothing.", policyDelete},
		{"policy fmt", "FILE", 1, 1, local, "check and format a policy's file", "Checks the policy in a file and writes it back in the usual form.", policyFmt},
		{"policy test", "POLICY PATH", 2, 2, client, "tell which rule of a policy decides about a path", policyTestHelp, policyTest},
	}
}

const policyTestHelp = `Tells which rule of a policy decides about a path of the API, such as secret/data/app, and what it allows there.
POLICY is the name of a policy of the keep, or @FILE for one in a file (- for standard input), which takes no server.
Whether it may be listed or scanned is decided for PATH as a folder. With -capability the exit code is 2 when the policy
does not give all of them.`

// policyName returns a policy's name in the keep's form.
func policyName(arg string) string { return access.PolicyName(strings.Trim(arg, "/ ")) }

// policyText reads a policy from a file, or from standard input if file is "-".
func (c *cli) policyText(file string) (string, error) {
	var in io.Reader
	if file == "-" {
		in = c.input()
	} else {
		f, err := os.Open(file)
		if err != nil {
			return "", fmt.Errorf("reading the policy: %w", err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, access.MaxPolicy+1))
	if err == nil && len(b) > access.MaxPolicy {
		err = fmt.Errorf("more than %d bytes", access.MaxPolicy)
	}
	if err != nil {
		return "", fmt.Errorf("reading the policy from %s: %w", source(file), err)
	}
	return string(b), nil
}

func policyWrite(*flag.FlagSet) action {
	return func(c *cli, args []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		text, err := c.policyText(args[1])
		if err != nil {
			return err
		}
		name := policyName(args[0])
		_, err = a.do(c, http.MethodPut, "sys/policies/acl/"+name, nil, object{"policy": text})
		return c.done(err, "Success! Uploaded policy: "+name)
	}
}

func policyRead(*flag.FlagSet) action {
	return func(c *cli, args []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		text, err := c.fetchPolicy(a, args[0])
		if err != nil {
			return err
		}
		if asJSON, _ := c.asJSON(); asJSON {
			return c.printValue(object{"policy": text})
		}
		fmt.Fprintln(c.stdout, strings.TrimSpace(text))
		return nil
	}
}

// fetchPolicy gets the text of a policy of the keep.
func (c *cli) fetchPolicy(a *keepClient, arg string) (string, error) {
	name := policyName(arg)
	b, err := a.do(c, http.MethodGet, "sys/policies/acl/"+name, nil, nil)
	if notFound(err) {
		return "", coded{hint(fmt.Errorf("there is no policy named %q", name), "sealkeep policy list shows the names; a file is named @FILE to policy test"), 2}
	}
	if err != nil {
		return "", err
	}
	var answer struct {
		Data struct{ Policy string }
	}
	err = decode(b, &answer)
	return answer.Data.Policy, err
}

func policyList(*flag.FlagSet) action {
	return func(c *cli, _ []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		b, err := a.do(c, "LIST", "sys/policies/acl", nil, nil)
		if err != nil {
			return err
		}
		var answer struct {
			Data struct{ Keys []string }
		}
		if err := decode(b, &answer); err != nil {
			return err
		}
		if asJSON, _ := c.asJSON(); asJSON {
			return c.printValue(answer.Data.Keys)
		}
		fmt.Fprintln(c.stdout, strings.Join(answer.Data.Keys, "\n"))
		return nil
	}
}

func policyDelete(*flag.FlagSet) action {
	return func(c *cli, args []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		name := policyName(args[0])
		_, err = a.do(c, http.MethodDelete, "sys/policies/acl/"+name, nil, nil)
		return c.done(err, "Success! Deleted policy (if it existed): "+name)
	}
}

func policyFmt(*flag.FlagSet) action {
	return func(c *cli, args []string) error {
		file := args[0]
		if file == "-" {
			return errors.New("a file is needed: the policy is written back to where it was")
		}
		text, err := c.policyText(file)
		if err != nil {
			return err
		}
		if _, err := access.ParsePolicy("", text); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		tidy := hclwrite.Format([]byte(text))
		if strings.HasPrefix(strings.TrimSpace(text), "{") {
			var b bytes.Buffer
			if err := json.Indent(&b, []byte(strings.TrimSpace(text)), "", "  "); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			tidy = append(b.Bytes(), '\n')
		}
		if string(tidy) != text {
			info, err := os.Stat(file)
			if err == nil {
				err = writeFile(file, string(tidy), info.Mode().Perm())
			}
			if err != nil {
				return fmt.Errorf("writing the policy: %w", err)
			}
		}
		fmt.Fprintln(c.stdout, "Success! Formatted policy: "+file)
		return nil
	}
}

func policyTest(f *flag.FlagSet) action {
	var wanted list
	f.Var(&wanted, "capability", "exit with 2 unless the policy gives this `capability`; can be repeated")
	return func(c *cli, args []string) error {
		var need access.Capability
		for _, word := range wanted {
			bit, ok := access.ParseCapability(word)
			if !ok || bit == access.Denied {
				return hint(fmt.Errorf("there is no capability %q", word), "there are create, read, update, patch, delete, list, scan and sudo")
			}
			need |= bit
		}
		asJSON, err := c.asJSON()
		if err != nil {
			return err
		}
		p, err := c.policy(args[0])
		if err != nil {
			return err
		}
		path := strings.TrimPrefix(strings.TrimPrefix(args[1], "/"), "v1/")
		acl := access.NewACL([]*access.Policy{p})
		grant := acl.Find(path)
		rule, line, found := grant.Rule()
		listed, listLine, lists := acl.Find(strings.TrimSuffix(path, "/") + "/").Rule()
		can := acl.Capabilities(path)
		caps := can.Names()
		if asJSON {
			out := object{"path": path, "capabilities": caps, "rule": nil, "line": nil, "list_rule": nil, "list_line": nil, "parameters_restricted": grant.Restricted()}
			if least, most := grant.Wrapping(); least > 0 || most > 0 {
				out["min_wrapping_ttl"], out["max_wrapping_ttl"] = least/time.Second, most/time.Second
			}
			if found {
				out["rule"], out["line"] = rule, line
			}
			if lists {
				out["list_rule"], out["list_line"] = listed, listLine
			}
			if err := c.printValue(out); err != nil {
				return err
			}
		} else {
			decides := "none: what no rule allows is denied"
			switch {
			case found:
				decides = fmt.Sprintf("path %q (line %d)", rule, line)
			case slices.Contains(caps, access.RootPolicy):
				decides = "none: the root policy allows everything"
			}
			rows := [][]string{{"Key", "Value"}, {"path", path}, {"rule", decides}}
			if lists && (listed != rule || listLine != line) {
				rows = append(rows, []string{"rule for list, scan", fmt.Sprintf("path %q (line %d)", listed, listLine)})
			}
			rows = append(rows, []string{"capabilities", strings.Join(caps, ", ")})
			if grant.Restricted() {
				rows = append(rows, []string{"parameters", "restricted by the rule"})
			}
			if least, most := grant.Wrapping(); most > 0 {
				rows = append(rows, []string{"answers", fmt.Sprintf("wrapped only, for %v to %v", max(least, time.Second), most)})
			} else if least > 0 {
				rows = append(rows, []string{"answers", fmt.Sprintf("wrapped only, for %v or more", least)})
			}
			table(c.stdout, rows)
		}
		if !can.Has(need) && need != 0 {
			return exit{2}
		}
		return nil
	}
}

// policy returns the policy that an argument names: @FILE, "-", or a policy of the keep.
func (c *cli) policy(arg string) (*access.Policy, error) {
	var text string
	var err error
	file, isFile := strings.CutPrefix(arg, "@")
	if isFile || arg == "-" {
		text, err = c.policyText(file)
	} else if arg = policyName(arg); arg == access.RootPolicy {
		return &access.Policy{Name: arg}, nil
	} else {
		var a *keepClient
		if a, err = c.api(); err == nil {
			text, err = c.fetchPolicy(a, arg)
		}
	}
	if err != nil {
		return nil, err
	}
	p, err := access.ParsePolicy("", text)
	if err != nil && (isFile || arg == "-") {
		err = fmt.Errorf("%s: %w", source(file), err)
	}
	return p, err
}

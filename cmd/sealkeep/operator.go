package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"strings"
)

func operatorCommands() []command {
	return []command{
		{"operator init", "", 0, 0, client, "make the store of a new keep", initHelp, operatorInit},
		{"operator seal", "", 0, 0, client, "seal the keep", sealHelp, operatorSeal},
		{"operator rotate", "", 0, 0, client, "begin a new key of the barrier", "Adds a new key to the barrier's keyring; what is written from now on is encrypted with it. What older keys have encrypted\nis brought to it in the background, and they are forgotten: operator key-status shows how far that is.", operatorRotate},
		{"operator key-status", "", 0, 0, client, "show the barrier's newest key", "Shows the number, the time and the use of the barrier's newest key, and how far the re-encryption with it is.", operatorKeyStatus},
		{"operator storage check", "", 0, 0, local, "check a store file that is not in use", storageCheckHelp, storageCheck},
	}
}

const sealHelp = `Seals the keep: it forgets its keys, serves nothing, and stays sealed until the server is restarted, people open it with shares
or an identity (operator unseal), or root unseals it over a listener "unix" that says operator = true. A reload does not open
it, and a bare operator unseal from anybody else is refused. The service manager counts it as healthy.

With -keep it stays sealed over restarts, too: a file beside the store, NAME.held, says so. Where no people have shares or an
identity, and no listener has operator = true, removing that file and a restart open it.`

const initHelp = `Makes the store, wraps its root key with every seal of the configuration, and prints the root token once. It also makes
recovery shares, any few of which open the keep when every key service is gone, and prints them once: hand each to somebody
else. With recovery "age" in the configuration there are none unless asked for: the identities of its recipients open the keep.`

// initAnswer is the answer of sys/init.
type initAnswer struct {
	Keys            []string `json:"keys"`
	KeysB64         []string `json:"keys_base64"`
	RecoveryKeys    []string `json:"recovery_keys"`
	RecoveryKeysB64 []string `json:"recovery_keys_base64"`
	RootToken       string   `json:"root_token"`
	Fingerprint     string   `json:"fingerprint"`
	Warnings        []string `json:"warnings"`
}

func operatorInit(f *flag.FlagSet) action {
	query := f.Bool("status", false, "only tell whether the keep is initialized: exit code 0 if so, 2 if not, 1 on an error")
	numbers := map[string]*int{
		"secret_shares":      f.Int("key-shares", 0, "`number` of key shares; 0, for the key service opens the keep"),
		"secret_threshold":   f.Int("key-threshold", 0, "`number` of key shares that open; 0"),
		"recovery_shares":    f.Int("recovery-shares", 5, "`number` of recovery shares; 0 for none, as is the default where the configuration has recovery \"age\""),
		"recovery_threshold": f.Int("recovery-threshold", 3, "`number` of recovery shares that open the keep"),
	}
	recipients := ageRecipients(f)
	return func(c *cli, _ []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		asJSON, _ := c.asJSON()
		if *query {
			return c.initStatus(a, asJSON)
		}
		body := object{}
		f.Visit(func(given *flag.Flag) { // an absent field has a meaning of its own
			name := strings.ReplaceAll(strings.Replace(given.Name, "key-", "secret-", 1), "-", "_")
			if n := numbers[name]; n != nil {
				body[name] = *n
			}
		})
		if *recipients != nil {
			body["recovery_age_recipients"] = *recipients
		}
		b, err := a.do(c, http.MethodPut, "sys/init", nil, body)
		if e, ok := errors.AsType[*apiError](err); ok && strings.Contains(e.Error(), "already initialized") {
			return hint(err, "should nobody have got the answer of the first init: sealkeep status says whether a token has been used since, and what to do")
		}
		if err != nil {
			return err
		}
		var s initAnswer
		if err := decode(b, &s); err != nil {
			return err
		}
		for _, w := range s.Warnings {
			c.warnf("%s", w)
		}
		if asJSON { // the names of Vault's command line
			return c.printValue(struct {
				UnsealKeysB64     []string `json:"unseal_keys_b64"`
				UnsealKeysHex     []string `json:"unseal_keys_hex"`
				UnsealShares      int      `json:"unseal_shares"`
				UnsealThreshold   int      `json:"unseal_threshold"`
				RecoveryKeysB64   []string `json:"recovery_keys_b64"`
				RecoveryKeysHex   []string `json:"recovery_keys_hex"`
				RecoveryShares    int      `json:"recovery_keys_shares"`
				RecoveryThreshold int      `json:"recovery_keys_threshold"`
				RootToken         string   `json:"root_token"`
				Fingerprint       string   `json:"fingerprint"`
			}{nonNil(s.KeysB64), nonNil(s.Keys), *numbers["secret_shares"], *numbers["secret_threshold"],
				nonNil(s.RecoveryKeysB64), nonNil(s.RecoveryKeys), len(s.RecoveryKeys), min(*numbers["recovery_threshold"], len(s.RecoveryKeys)), s.RootToken, s.Fingerprint})
		}
		c.printShares(s.RecoveryKeysB64, *numbers["recovery_threshold"], "")
		fmt.Fprintf(c.stdout, "Initial Root Token: %s\nFingerprint: %s\n\n", s.RootToken, s.Fingerprint)
		fmt.Fprint(c.stdout, "Success! The keep is initialized, and opens itself whenever one of its key services can be reached.\n"+
			"Keep the root token safe: it is not shown again. Note the fingerprint of the root key: `sealkeep status` shows\n"+
			"it, and another one means another store.\n")
		return nil
	}
}

func nonNil(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func (c *cli) initStatus(a *keepClient, asJSON bool) error {
	b, err := a.do(c, http.MethodGet, "sys/init", nil, nil)
	if err != nil {
		return coded{err, 1} // 2 means not initialized
	}
	var s struct{ Initialized bool }
	if err := decode(b, &s); err != nil {
		return coded{err, 1}
	}
	switch {
	case asJSON:
		if err := c.printJSON(b); err != nil {
			return coded{err, 1}
		}
	case s.Initialized:
		fmt.Fprintln(c.stdout, "The keep is initialized")
	default:
		fmt.Fprintln(c.stdout, "The keep is not initialized")
	}
	if !s.Initialized {
		return exit{2}
	}
	return nil
}

func operatorSeal(f *flag.FlagSet) action {
	keep := f.Bool("keep", false, "stay sealed over restarts, too")
	return func(c *cli, _ []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		var body any
		if *keep {
			body = object{"keep": true}
		}
		_, err = a.do(c, http.MethodPut, "sys/seal", nil, body)
		return c.done(err, "Success! The keep is sealed.")
	}
}

func operatorRotate(*flag.FlagSet) action {
	return func(c *cli, _ []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		if _, err := a.do(c, http.MethodPut, "sys/rotate", nil, nil); err != nil {
			return err
		}
		if asJSON, _ := c.asJSON(); !asJSON {
			fmt.Fprint(c.stdout, "Success! Rotated the key\n\n")
		}
		return c.keyStatus(a)
	}
}

func operatorKeyStatus(*flag.FlagSet) action {
	return func(c *cli, _ []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		return c.keyStatus(a)
	}
}

func (c *cli) keyStatus(a *keepClient) error {
	b, err := a.do(c, http.MethodGet, "sys/key-status", nil, nil)
	if err != nil {
		return err
	}
	var answer struct{ Data json.RawMessage }
	if err := decode(b, &answer); err != nil {
		return err
	}
	if asJSON, _ := c.asJSON(); asJSON {
		return c.printJSON(answer.Data)
	}
	var s struct {
		Term        json.Number `json:"term"`
		InstallTime string      `json:"install_time"`
		Encryptions json.Number `json:"encryptions"`
		Terms       []json.Number
		Background  struct {
			Running       bool
			Passed, Total json.Number
		} `json:"reencryption"`
	}
	if err := decode(answer.Data, &s); err != nil {
		return err
	}
	fmt.Fprintf(c.stdout, "Key Term            %s\nInstall Time        %s\nEncryption Count    %s\n", s.Term, s.InstallTime, s.Encryptions)
	if len(s.Terms) > 1 { // until everything is encrypted with the newest key
		fmt.Fprintf(c.stdout, "Older Terms         %d\n", len(s.Terms)-1)
	}
	if s.Background.Running {
		fmt.Fprintf(c.stdout, "Re-encryption       %s of %s records\n", s.Background.Passed, s.Background.Total)
	}
	return nil
}

package main

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

func tofuCommands() []command {
	return []command{{"tofu-key-provider", "KEY", 1, 1, client, "give OpenTofu keys for its state", tofuKeyProviderHelp, tofuKeyProvider}}
}

const tofuKeyProviderHelp = "Speaks the protocol of OpenTofu's key provider \"external\" on standard input and output, with data keys of the transit KEY. It logs\n" +
	"in through the keep's unix socket, as the user that runs tofu, by a role of the login method peer, and revokes the token before\n" +
	"it ends: nobody has to keep one. The policy of the role is that of `sealkeep transit policy -for=tofu KEY`.\n\n" +
	"    key_provider \"external\" \"keep\" {\n" +
	"      command = [\"sealkeep\", \"tofu-key-provider\", \"-address=unix:///run/sealkeep/api.sock\", \"-role=tofu\", \"KEY\"]\n" +
	"    }\n\n" +
	"What the state has beside it is the data key as the transit key has encrypted it."

// tofuHeader is the first line that OpenTofu expects.
const tofuHeader = `{"magic":"OpenTofu-External-Key-Provider","version":1}`

// tofuMeta is what OpenTofu keeps, in clear, beside what it has encrypted, and hands back.
type tofuMeta struct {
	External struct {
		Ciphertext string `json:"ciphertext"` // the data key, encrypted
	} `json:"external_data"`
}

// tofuKeys is the answer to OpenTofu, which refuses any other field.
type tofuKeys struct {
	Keys struct {
		Encryption []byte `json:"encryption_key"`
		Decryption []byte `json:"decryption_key,omitempty"`
	} `json:"keys"`
	Meta tofuMeta `json:"meta"`
}

const (
	tofuInputMost  = 64 << 10
	tofuRevokeTime = 5 * time.Second
)

func tofuKeyProvider(f *flag.FlagSet) action {
	mount := mountFlag(f)
	role := f.String("role", "", "`name` of the role of the login method")
	path := f.String("path", "peer", "`path` at which the login method peer is enabled, below auth/")
	return func(c *cli, args []string) error {
		if *role == "" {
			return errors.New("no role is given: write -role=NAME, the name of a role of the login method peer")
		}
		a, err := c.api()
		if err != nil {
			return err
		}
		if !strings.HasPrefix(a.address, "unix://") {
			return fmt.Errorf("the address %s is no unix socket, by which the keep knows who asks: write -address=unix:///run/sealkeep/api.sock", a.address)
		}
		a = a.plain()
		if _, err := fmt.Fprintln(c.stdout, tofuHeader); err != nil {
			return fmt.Errorf("answering OpenTofu: %w", err)
		}
		wanted, err := readTofuMeta(c.input())
		if err != nil {
			return fmt.Errorf("reading what OpenTofu asks: %w", err)
		}
		if err := c.peerLogin(a, *path, *role); err != nil {
			return err
		}
		defer c.endToken(a)
		var keys tofuKeys
		keys.Keys.Encryption, keys.Meta.External.Ciphertext, err = c.transitKey(a, keyPath(*mount, "datakey", "plaintext", args[0]), object{"bits": 256})
		if err != nil {
			return err
		}
		if wanted != nil {
			keys.Keys.Decryption, _, err = c.transitKey(a, keyPath(*mount, "decrypt", args[0]), object{"ciphertext": wanted.External.Ciphertext})
			if err != nil {
				return err
			}
		}
		return json.NewEncoder(c.stdout).Encode(keys)
	}
}

// readTofuMeta reads what OpenTofu wants decrypted, nil if nothing.
func readTofuMeta(in io.Reader) (*tofuMeta, error) {
	b, err := io.ReadAll(io.LimitReader(in, tofuInputMost+1))
	if err != nil {
		return nil, err
	}
	if len(b) > tofuInputMost {
		return nil, fmt.Errorf("it is longer than %d bytes", tofuInputMost)
	}
	var meta *tofuMeta
	if err := json.Unmarshal(b, &meta); err != nil {
		return nil, errors.New("it is not what the protocol has: run this command by a key_provider \"external\"")
	}
	if meta != nil && meta.External.Ciphertext == "" {
		return nil, errors.New("there is no encrypted data key beside the state: another key provider has encrypted it, which must be named in a fallback block")
	}
	return meta, nil
}

// peerLogin logs in as the user of this process. The client has the token then.
func (c *cli) peerLogin(a *keepClient, path, role string) error {
	a.token = "" // an old one says nothing about this login
	path = "auth/" + strings.Trim(strings.TrimPrefix(path, "auth/"), "/") + "/login"
	b, err := a.do(c, http.MethodPost, path, nil, object{"role": role})
	if err != nil {
		return oneLine(a, "logging in at "+path, err)
	}
	s, err := decodeSecret(b)
	if err != nil {
		return err
	}
	if a.token, _ = s.Auth["client_token"].(string); a.token == "" {
		return coded{fmt.Errorf("logging in at %s: the answer has no token", path), 2}
	}
	return nil
}

// endToken revokes the client's token, also when the command was told to stop. A token that cannot be revoked ends with
// its TTL.
func (c *cli) endToken(a *keepClient) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context), tofuRevokeTime)
	defer cancel()
	last := *c
	last.Context = ctx
	_, _ = a.do(&last, http.MethodPost, "auth/token/revoke-self", nil, nil)
}

// transitKey asks the engine for a key, in plaintext and encrypted.
func (c *cli) transitKey(a *keepClient, path string, body object) (key []byte, ciphertext string, err error) {
	b, err := a.do(c, http.MethodPut, path, nil, body)
	if err != nil {
		return nil, "", oneLine(a, "asking for "+path, err)
	}
	var answer struct {
		Data struct{ Plaintext, Ciphertext string }
	}
	if err := decode(b, &answer); err != nil {
		return nil, "", err
	}
	if key, err = base64.StdEncoding.DecodeString(answer.Data.Plaintext); err != nil || len(key) == 0 {
		return nil, "", coded{fmt.Errorf("asking for %s: the answer has no key", path), 2}
	}
	return key, answer.Data.Ciphertext, nil
}

// oneLine is an error of a request in one line, for a program that shows it among others.
func oneLine(a *keepClient, doing string, err error) error {
	text := err.Error()
	if e, ok := errors.AsType[*apiError](err); ok {
		text = cmp.Or(strings.Join(e.errors, "; "), http.StatusText(e.code))
		if e.code == http.StatusServiceUnavailable && strings.Contains(text, "sealed") {
			return coded{fmt.Errorf("the keep at %s is sealed: sealkeep status -address=%[1]s says why", a.address), 2}
		}
	}
	return coded{fmt.Errorf("%s: %s", doing, strings.ReplaceAll(text, "\n", " ")), 2}
}

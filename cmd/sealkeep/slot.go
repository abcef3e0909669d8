package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

func slotCommands() []command {
	return []command{
		{"operator slot list", "", 0, 0, client, "list the slots and the seals without one", slotListHelp, slotList},
		{"operator slot verify", "[NAME...]", 0, -1, client, "open slots as they stand in the file", slotVerifyHelp, slotVerify},
		{"operator slot add", "NAME", 1, 1, client, "give a configured seal its slot", slotAddHelp, slotAdd},
		{"operator slot remove", "NAME", 1, 1, client, "remove a slot", slotRemoveHelp, slotRemove},
		{"operator rotate-root", "", 0, 0, client, "make a new root key, and new slots for it", rotateRootHelp, rotateRoot},
	}
}

const (
	slotListHelp = `Lists the slots of the open keep: any one of them opens it. States: opened and ready are fine, standby is the same for a
disabled seal, recovery is for people. A pending seal has no slot yet, or its slot hangs on a key (in the column Key) that may not
be the one in force any more: keep that key until the slot is ready. An orphaned slot has no seal in the configuration, a
revoked one gets no slot again unless it is added by name, and a quarantined or missing one is not in the file as the store made
it.`
	slotVerifyHelp = `Has the key service open each slot as it stands in the file, compares what comes out with the root key and forgets it:
what the next boot will do. Without a name it does so for all slots that a key service opens. It changes nothing.
Exit code: 0 all have opened, 2 one did not or the server gave an error, 1 a local mistake.`
	slotAddHelp = `Gives the seal named NAME its slot now. Seals from the configuration's files get theirs by themselves; this is for a seal
that environment variables alone make, and for one that was revoked. NAME may be recovery-age: the recipients of the
configuration.`
	slotRemoveHelp = `Removes the slot named NAME, when another one with an enabled seal has just been opened from the file. Its seal block must
be gone from the configuration, or disabled, else the slot would come back. The root key stays, so whoever has the slot
from an older copy of the file, or from the bytes that are left of it in this one, and the use of its key, opens this file
too. If somebody may have both, use operator rotate-root -revoke=NAME instead, then operator storage compact.`
	rotateRootHelp = `Makes a new root key and wraps it for every slot, those of people too. What a key service wraps is opened again before anything is
written; what is wrapped for people is opened when they give shares or an identity, and else made for the same recipients. Then
all records are re-encrypted in the background. It refuses while a slot cannot be made anew, unless that slot is named: -drop
when its service is away (the slot comes back by itself), -revoke when somebody else may have it (the keep remembers that: only
operator slot add gives it a slot again).

Something has to be seen to open the new root key: an enabled service, or people. Where no service would be left, a terminal is
asked for recovery shares; a keep without shares makes them first, prints them, and takes them back. Without a terminal, give
-share or -identity.

Whoever had the old root key, or has an old slot and the use of its key, reads no value that is written from then on; once all
is re-encrypted, none of this file. Names they still read. Older copies of the file open as they did: replace the secrets.
Operator storage compact takes the last old bytes out of this file.`
)

// slotView is a slot as sys/slots shows it; unknown fields are ignored.
type slotView struct {
	Name       string    `json:"name"`
	Type       string    `json:"type"`
	State      string    `json:"state"`
	Class      string    `json:"class"`
	Priority   int       `json:"priority"`
	KeyID      string    `json:"key_id"`
	Created    time.Time `json:"created"`
	LastOpened time.Time `json:"last_opened"`
	Verified   time.Time `json:"verified"`
	Error      string    `json:"error"`
	Hint       string    `json:"hint"`
	Warning    string    `json:"warning"`
}

// slots reads the list of slots; raw is the unchanged answer.
func (c *cli) slots(a *keepClient) (slots []slotView, raw json.RawMessage, err error) {
	b, err := a.do(c, http.MethodGet, "sys/slots", nil, nil)
	if err != nil {
		return nil, nil, err
	}
	var answer struct {
		Data struct{ Slots json.RawMessage }
	}
	if err := decode(b, &answer); err != nil {
		return nil, nil, err
	}
	return slots, answer.Data.Slots, decode(answer.Data.Slots, &slots)
}

func slotList(*flag.FlagSet) action {
	return func(c *cli, _ []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		slots, raw, err := c.slots(a)
		if err != nil {
			return err
		}
		if asJSON, _ := c.asJSON(); asJSON {
			return c.printJSON(raw)
		}
		rows := [][]string{{"Name", "Type", "State", "Priority", "Key", "Created", "Last Opened"}}
		for _, sl := range slots {
			opened := sl.LastOpened
			if opened.Before(sl.Verified) {
				opened = sl.Verified
			}
			priority := ""
			if sl.Priority > 0 {
				priority = fmt.Sprint(sl.Priority)
			}
			rows = append(rows, []string{sl.Name, cmp.Or(sl.Type, "n/a"), strings.TrimSpace(sl.State + " " + sl.Class), cmp.Or(priority, "n/a"),
				cmp.Or(sl.KeyID, "n/a"), shortTime(sl.Created), shortTime(opened)})
		}
		table(c.stdout, rows)
		for _, sl := range slots {
			if sl.Error != "" {
				c.warnf("%s", strings.TrimSuffix(fmt.Sprintf("%s: %s; next: %s", sl.Name, sl.Error, sl.Hint), "; next: "))
			}
			if sl.Warning != "" {
				c.warnf("%s: %s", sl.Name, sl.Warning)
			}
		}
		return nil
	}
}

func shortTime(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}

func slotVerify(*flag.FlagSet) action {
	return func(c *cli, names []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		if len(names) == 0 {
			slots, _, err := c.slots(a)
			if err != nil {
				return err
			}
			for _, sl := range slots {
				if sl.State != "recovery" {
					names = append(names, sl.Name)
				}
			}
		}
		var all []json.RawMessage
		failed := false
		rows := [][]string{{"Name", "Type", "Outcome", "Seconds"}}
		var reasons []string
		for _, name := range names {
			b, err := a.do(c, http.MethodPost, "sys/slots/"+name+"/verify", nil, nil)
			if err != nil {
				return err
			}
			var answer struct{ Data json.RawMessage }
			var o struct {
				Name, Type, Class, Error, Hint string
				Opened                         bool
				Seconds                        float64
			}
			if err := decode(b, &answer); err != nil {
				return err
			}
			if err := decode(answer.Data, &o); err != nil {
				return err
			}
			all = append(all, answer.Data)
			outcome := "opened"
			if !o.Opened {
				failed, outcome = true, strings.TrimSpace("failed "+o.Class)
				reasons = append(reasons, strings.TrimSuffix(fmt.Sprintf("%s: %s; next: %s", o.Name, o.Error, o.Hint), "; next: "))
			}
			rows = append(rows, []string{o.Name, cmp.Or(o.Type, "n/a"), outcome, fmt.Sprintf("%.3f", o.Seconds)})
		}
		if asJSON, _ := c.asJSON(); asJSON {
			if err := c.printValue(all); err != nil {
				return err
			}
		} else {
			table(c.stdout, rows)
			for _, r := range reasons {
				c.warnf("%s", r)
			}
		}
		if failed {
			return exit{2}
		}
		return nil
	}
}

func slotAdd(*flag.FlagSet) action {
	return func(c *cli, args []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		b, err := a.do(c, http.MethodPost, "sys/slots/"+args[0], nil, nil)
		return c.changed(b, err, fmt.Sprintf("Success! %s has its slot, and it has been opened.", args[0]))
	}
}

func slotRemove(*flag.FlagSet) action {
	return func(c *cli, args []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		b, err := a.do(c, http.MethodDelete, "sys/slots/"+args[0], nil, nil)
		return c.changed(b, err, fmt.Sprintf("Success! Removed the slot %s.", args[0]))
	}
}

func rotateRoot(f *flag.FlagSet) action {
	var drop, revoke list
	var shares words
	f.Var(&drop, "drop", "`name` of a slot whose service is away: it does not get the new root key, and comes back by itself; can be repeated")
	f.Var(&revoke, "revoke", "`name` of a slot that somebody else may have: it does not get the new root key, nor any later one until operator slot add; can be repeated")
	f.Var(&shares, "share", "recovery `share`; can be repeated; - reads them from standard input, one a line")
	identity, recipients := identityFlag(f), ageRecipients(f)
	number := f.Int("key-shares", 5, "`number` of shares to make where nothing else would open the keep")
	threshold := f.Int("key-threshold", 3, "`number` of them that open the keep")
	return func(c *cli, _ []string) error {
		body := object{"drop": append([]string{}, drop...), "revoke": append([]string{}, revoke...)}
		if *identity != "" {
			given, err := c.offer(nil, *identity)
			if err != nil {
				return err
			}
			body["identity"] = given["identity"]
		}
		if len(shares) == 1 && shares[0] == "-" {
			b, err := io.ReadAll(io.LimitReader(c.stdin, maxIdentity))
			if err != nil {
				return fmt.Errorf("reading the shares: %w", err)
			}
			shares = strings.Fields(string(b))
		}
		if len(shares) > 0 {
			body["keys"] = shares
		}
		a, err := c.api()
		if err != nil {
			return err
		}
		b, err := a.do(c, http.MethodPut, "sys/rotate/root", nil, body)
		if e, ok := errors.AsType[*apiError](err); ok && e.code == http.StatusPreconditionRequired {
			fresh := object{"drop": body["drop"], "revoke": body["revoke"], "secret_shares": *number, "secret_threshold": *threshold}
			if *recipients != nil {
				fresh["recovery_age_recipients"] = *recipients
			}
			b, err = c.proveRotation(a, err, slices.Concat(drop, revoke), body, fresh)
		}
		if err != nil {
			return err
		}
		var s struct {
			Data struct {
				Fingerprint string   `json:"fingerprint"`
				Slots       []string `json:"slots"`
				ProvedBy    string   `json:"proved_by"`
			} `json:"data"`
		}
		if err := decode(b, &s); err != nil {
			return err
		}
		return c.changed(b, nil, fmt.Sprintf("Success! The root key is a new one, in the slots: %s\nIt was seen to open: %s\nFingerprint: %s", strings.Join(s.Data.Slots, ", "), s.Data.ProvedBy, s.Data.Fingerprint))
	}
}

// proveRotation asks people on the terminal to prove that they can open the keep, and then rotates the root key. refused is
// the error of the request without a proof, gone names the slots that go, and fresh is the request that makes shares if
// nobody can be asked.
func (c *cli) proveRotation(a *keepClient, refused error, gone []string, body, fresh object) ([]byte, error) {
	if _, ok := c.terminal(); !ok {
		return nil, hint(refused, "repeat the command on a terminal, where it asks for what is missing; or give -share=- or -identity=FILE")
	}
	var d drill
	if err := c.ask(a, http.MethodGet, "sys/recovery/verify", nil, &d); err != nil {
		return nil, err
	}
	asked, identities := 0, false
	for _, s := range d.Slots {
		if !slices.Contains(gone, s.Name) {
			asked, identities = max(asked, s.Threshold), identities || s.Threshold == 0
		}
	}
	switch {
	case asked > 0:
		c.warnf("no enabled service slot would be left: %d recovery shares have to show that people open the keep", asked)
	case identities:
		return nil, hint(refused, "give the age identity of a recipient: -identity=FILE; if it is lost, drop that slot too and shares are made")
	default:
		c.warnf("nothing would be left that is known to open the keep: recovery shares are made now, and %v of them have to be given back", fresh["secret_threshold"])
		var s struct {
			Nonce      string   `json:"nonce"`
			T          int      `json:"t"`
			KeysBase64 []string `json:"keys_base64"`
			Set        string   `json:"set"`
		}
		if err := c.ask(a, http.MethodPut, "sys/rotate/root", fresh, &s); err != nil {
			return nil, err
		}
		if asJSON, _ := c.asJSON(); !asJSON {
			c.printShares(s.KeysBase64, s.T, s.Set)
		} else if err := c.printValue(s); err != nil {
			return nil, err
		}
		asked, body["nonce"] = s.T, s.Nonce
	}
	var keys []string
	for len(keys) < asked {
		share, err := c.readLine(fmt.Sprintf("Recovery share %d of %d", len(keys)+1, asked))
		if err != nil {
			return nil, fmt.Errorf("reading the share: %w", err)
		}
		if share = strings.TrimSpace(share); share != "" {
			keys = append(keys, share)
		}
	}
	body["keys"] = keys
	return a.do(c, http.MethodPut, "sys/rotate/root", nil, body)
}

// changed prints the answer b of a change: its data as JSON, or the sentence, and its warnings.
func (c *cli) changed(b []byte, err error, sentence string) error {
	if err != nil {
		return err
	}
	var s struct {
		Data     json.RawMessage `json:"data"`
		Warnings []string        `json:"warnings"`
	}
	if err := decode(b, &s); err != nil {
		return err
	}
	for _, w := range s.Warnings {
		c.warnf("%s", w)
	}
	if asJSON, _ := c.asJSON(); asJSON {
		return c.printJSON(s.Data)
	}
	fmt.Fprintln(c.stdout, sentence)
	return nil
}

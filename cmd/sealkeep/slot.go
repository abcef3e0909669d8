package main

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
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
disabled seal, recovery is for people. A pending seal has no slot yet, an orphaned slot has no seal in the configuration,
and a quarantined or missing one is not in the file as the store made it.`
	slotVerifyHelp = `Has the key service open each slot as it stands in the file, compares what comes out with the root key and forgets it:
what the next boot will do. Without a name it does so for all slots that a key service opens. It changes nothing.
Exit code: 0 all have opened, 2 one did not or the server gave an error, 1 a local mistake.`
	slotAddHelp = `Gives the seal named NAME its slot now. Seals from the configuration's files get theirs by themselves; this is for a seal
that environment variables alone make.`
	slotRemoveHelp = `Removes the slot named NAME, when another one with an enabled seal has just been opened from the file. Its seal block must
be gone from the configuration, or disabled, else the slot would come back. Older copies of the file keep the slot: what
makes it worthless for later ones is operator rotate-root.`
	rotateRootHelp = `Makes a new root key and has every slot hold it, those of people, too, each opened once before anything is written; then
re-encrypts all records in the background. It refuses while a slot cannot be made anew, unless that is dropped by name.
Whoever had the old root key, or has an old slot and the use of its key, reads nothing that is written from then on. Older
copies of the file stay openable as they were; operator storage compact takes the last old bytes out of this one.`
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

// slots reads the list of slots; raw is as it came.
func (c *cli) slots(a *api) (slots []slotView, raw json.RawMessage, err error) {
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
	var drop list
	f.Var(&drop, "drop", "`name` of a slot that is not to get the new root key; can be repeated")
	return func(c *cli, _ []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		b, err := a.do(c, http.MethodPut, "sys/rotate/root", nil, object{"drop": append([]string{}, drop...)})
		if err != nil {
			return err
		}
		var s struct {
			Data struct {
				Fingerprint string   `json:"fingerprint"`
				Slots       []string `json:"slots"`
			} `json:"data"`
		}
		if err := decode(b, &s); err != nil {
			return err
		}
		return c.changed(b, nil, fmt.Sprintf("Success! The root key is a new one, in the slots: %s\nFingerprint: %s", strings.Join(s.Data.Slots, ", "), s.Data.Fingerprint))
	}
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

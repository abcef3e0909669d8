package main

import (
	"cmp"
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

func stateCommands() []command {
	return []command{
		{"state list", "[FOLDER]", 0, 1, client, "list the Terraform and OpenTofu states", stateListHelp, stateList(false)},
		{"state locks", "[FOLDER]", 0, 1, client, "list the states that are locked", "Lists the states that are locked, by whom and what for.", stateList(true)},
		{"state pull", "PATH", 1, 1, client, "print a state", "Prints a state as it was pushed.", statePull},
		{"state push", "PATH [FILE]", 1, 2, client, "store a state", statePushHelp, statePush},
		{"state history", "PATH", 1, 1, client, "list the versions of a state", stateHistoryHelp, stateHistory},
		{"state rollback", "PATH", 1, 1, client, "make an older version of a state the newest", stateRollbackHelp, stateRollback},
		{"state lock", "PATH", 1, 1, client, "keep everybody from changing a state", stateLockHelp, stateLock},
		{"state unlock", "PATH", 1, 1, client, "release the lock of a state", stateUnlockHelp, stateUnlock},
		{"state delete", "PATH", 1, 1, client, "delete a state", stateDeleteHelp, stateDelete},
		{"state undelete", "PATH", 1, 1, client, "bring back a deleted state", "Brings back a state that was deleted and not purged.", stateUndelete},
		{"state rm-version", "PATH", 1, 1, client, "delete one version of a state for good", "Deletes one version of a state for good. The newest is the state itself: roll back, or push another one, first.", stateRemoveVersion},
	}
}

const stateListHelp = `Lists the states of a mount, or in a FOLDER of it and all folders beneath, with the newest version of each, its serial and
size, and who has it locked. Terraform and OpenTofu are told of a state by its address, https://KEEP/state/PATH.`

const statePushHelp = `Stores a FILE, or the standard input, as the newest version of a state, as terraform state push -force does: neither serial nor
lineage is compared, unless the state has the setting strict. A state that is locked takes -lock-id, from the lock's holder.`

const stateHistoryHelp = `Lists the versions of a state, the newest first: when each was written, by whom, from where and for which operation. A change of the
lineage, and a serial that goes back, are marked. sealkeep state pull -version=N prints a version.`

const stateRollbackHelp = `Stores the content of an older version as the newest one, with the serial after the newest, so that every client takes it.
Only OpenTofu itself can do that with a state which it has encrypted.`

const stateLockHelp = `Takes the lock of a state and keeps it until it is released: a change freeze. Terraform and OpenTofu tell who was refused
who has it, and OpenTofu why. The lock's ID is printed; sealkeep state unlock releases it.`

const stateUnlockHelp = `Releases the lock of a state. With -id that lock alone; that of somebody else takes the capability update on
force-unlock/PATH.`

const stateDeleteHelp = `Deletes a state. Its versions stay, and sealkeep state undelete brings it back. With -purge all is deleted for good.`

// stateMount is where the engine is mounted.
func stateMount(f *flag.FlagSet) *string {
	return f.String("mount", "state", "`path` at which the engine is mounted")
}

func lockIDFlag(f *flag.FlagSet) *string {
	return f.String("lock-id", "", "`ID` of the caller's own lock of the state")
}

func idQuery(id string) url.Values {
	if id == "" {
		return nil
	}
	return url.Values{"ID": {id}}
}

// stateError says what the answer of the engine means.
func stateError(err error, mount, path string) error {
	e, ok := errors.AsType[*apiError](err)
	switch {
	case !ok:
		return err
	case e.code == http.StatusNotFound && strings.Contains(strings.Join(e.errors, " "), "no handler for route"):
		return coded{hint(fmt.Errorf("there is no engine for states at %s", mount), "sealkeep secrets enable -path=%s tfstate mounts one", strings.Trim(mount, "/")), 2}
	case e.code == http.StatusNotFound:
		return coded{hint(fmt.Errorf("there is no such state at %s, or not that version of it", path), "sealkeep state list shows the states, sealkeep state history %s the versions", path), 2}
	case e.code == http.StatusLocked:
		var held lockInfo
		if json.Unmarshal(e.body, &held) == nil && held.ID != "" {
			return coded{hint(fmt.Errorf("the state %s is locked by %s", path, held), "its holder says -lock-id=%s; sealkeep state unlock %s takes it from the holder", held.ID, path), 2}
		}
	}
	return err
}

// A lockInfo is what Terraform calls LockInfo.
type lockInfo struct {
	ID, Operation, Info, Who, Version, Created, Path string
}

func (l lockInfo) String() string {
	s := cmp.Or(l.Who, "somebody") + " since " + cmp.Or(l.Created, "some time") + " for " + cmp.Or(strings.TrimPrefix(l.Operation, "OperationType"), "something")
	if l.Info != "" {
		s += ": " + l.Info
	}
	return s
}

type stateVersion struct {
	Version    int64     `json:"version"`
	Serial     uint64    `json:"serial"`
	Lineage    string    `json:"lineage"`
	Time       time.Time `json:"time"`
	Size       int64     `json:"size"`
	Encrypted  bool      `json:"encrypted"`
	Who        string    `json:"who"`
	From       string    `json:"from"`
	Operation  string    `json:"operation"`
	LineageNew bool      `json:"lineage_changed"`
	SerialBack bool      `json:"serial_went_back"`
}

func stateList(locks bool) func(f *flag.FlagSet) action {
	return func(f *flag.FlagSet) action {
		mount := stateMount(f)
		return func(c *cli, args []string) error {
			a, err := c.api()
			if err != nil {
				return err
			}
			asJSON, _ := c.asJSON()
			path := keyPath(*mount, append([]string{"states"}, args...)...)
			var all []json.RawMessage
			rows := [][]string{{"Path", "Version", "Serial", "Size", "Written", "Locked by"}}
			for query := (url.Values{"locks": {strconv.FormatBool(locks)}}); ; {
				b, err := a.do(c, http.MethodGet, path, query, nil)
				if err != nil {
					return stateError(err, *mount, "")
				}
				var answer struct {
					Data struct {
						States []json.RawMessage
						Next   string
					}
				}
				if err := decode(b, &answer); err != nil {
					return err
				}
				for _, raw := range answer.Data.States {
					var s struct {
						Path    string
						Current *stateVersion
						Deleted *time.Time `json:"deletion_time"`
						Lock    *lockInfo
					}
					if err := decode(raw, &s); err != nil {
						return err
					}
					row := []string{s.Path, "-", "-", "-", "-", "-"}
					if v := s.Current; v != nil {
						row = []string{s.Path, fmt.Sprint(v.Version), fmt.Sprint(v.Serial), fmt.Sprint(v.Size), v.Time.Local().Format(time.DateTime), "-"}
					}
					if s.Deleted != nil {
						row[4] = "deleted"
					}
					if s.Lock != nil {
						row[5] = s.Lock.String()
					}
					all, rows = append(all, raw), append(rows, row)
				}
				if answer.Data.Next == "" {
					break
				}
				query.Set("after", answer.Data.Next)
			}
			switch {
			case asJSON && all == nil:
				return c.printValue([]string{})
			case asJSON:
				return c.printValue(all)
			case all == nil && locks:
				return coded{errors.New("no state is locked"), 2}
			case all == nil:
				return coded{errors.New("there is no state"), 2}
			}
			table(c.stdout, rows)
			return nil
		}
	}
}

func statePull(f *flag.FlagSet) action {
	mount := stateMount(f)
	version := f.Int("version", 0, "`number` of an older version")
	return func(c *cli, args []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		var query url.Values
		if *version != 0 {
			query = url.Values{"version": {strconv.Itoa(*version)}}
		}
		req, err := a.request(c, http.MethodGet, keyPath(*mount, "data", args[0]), query, nil)
		if err != nil {
			return err
		}
		a.http.Timeout = 0 // as long as it takes
		r, err := a.http.Do(req)
		if err != nil {
			return coded{a.explain(err), 2}
		}
		defer r.Body.Close()
		if r.StatusCode != http.StatusOK {
			b, _ := io.ReadAll(io.LimitReader(r.Body, maxAnswer))
			return stateError(coded{a.refusal(&apiError{method: http.MethodGet, url: req.URL.String(), code: r.StatusCode, body: b}), 2}, *mount, args[0])
		}
		if _, err := io.Copy(c.stdout, r.Body); err != nil {
			return coded{fmt.Errorf("the state was cut off: %w", err), 2}
		}
		return nil
	}
}

func statePush(f *flag.FlagSet) action {
	mount, id := stateMount(f), lockIDFlag(f)
	return func(c *cli, args []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		in := io.Reader(c.stdin)
		if len(args) == 2 && args[1] != "-" {
			file, err := os.Open(args[1])
			if err != nil {
				return fmt.Errorf("opening the state: %w", err)
			}
			defer file.Close()
			in = file
		}
		content, err := io.ReadAll(in)
		if err != nil {
			return fmt.Errorf("reading the state: %w", err)
		}
		req, err := a.request(c, http.MethodPost, keyPath(*mount, "data", args[0]), idQuery(*id), json.RawMessage(nil))
		if err != nil {
			return err
		}
		sum := md5.Sum(content)
		req.Header.Set("Content-MD5", base64.StdEncoding.EncodeToString(sum[:]))
		req.Body, req.ContentLength = io.NopCloser(strings.NewReader(string(content))), int64(len(content))
		a.http.Timeout = 0
		r, err := a.http.Do(req)
		if err != nil {
			return coded{a.explain(err), 2}
		}
		defer r.Body.Close()
		b, err := io.ReadAll(io.LimitReader(r.Body, maxAnswer))
		if err != nil {
			return coded{fmt.Errorf("reading the answer: %w", err), 2}
		}
		if r.StatusCode != http.StatusOK {
			return stateError(coded{a.refusal(&apiError{method: http.MethodPost, url: req.URL.String(), code: r.StatusCode, body: b}), 2}, *mount, args[0])
		}
		if asJSON, _ := c.asJSON(); asJSON {
			return c.printJSON(b)
		}
		var v stateVersion
		if err := decode(b, &v); err != nil {
			return err
		}
		fmt.Fprintf(c.stdout, "The state %s is version %d, serial %d.\n", args[0], v.Version, v.Serial)
		return nil
	}
}

func stateHistory(f *flag.FlagSet) action {
	mount := stateMount(f)
	return func(c *cli, args []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		all := []json.RawMessage{}
		rows := [][]string{{"Version", "Serial", "Size", "Written", "By", "From", "Operation", "Note"}}
		for query := url.Values(nil); ; {
			b, err := a.do(c, http.MethodGet, keyPath(*mount, "history", args[0]), query, nil)
			if err != nil {
				return stateError(err, *mount, args[0])
			}
			var answer struct {
				Data struct{ Versions []json.RawMessage }
			}
			if err := decode(b, &answer); err != nil {
				return err
			}
			var v stateVersion
			for _, raw := range answer.Data.Versions {
				v = stateVersion{}
				if err := decode(raw, &v); err != nil {
					return err
				}
				var notes []string
				for note, is := range map[string]bool{"encrypted by OpenTofu": v.Encrypted, "another lineage": v.LineageNew, "the serial went back": v.SerialBack} {
					if is {
						notes = append(notes, note)
					}
				}
				all = append(all, raw)
				rows = append(rows, []string{fmt.Sprint(v.Version), fmt.Sprint(v.Serial), fmt.Sprint(v.Size), v.Time.Local().Format(time.DateTime), v.Who, v.From, v.Operation, strings.Join(notes, ", ")})
			}
			if len(answer.Data.Versions) == 0 {
				break
			}
			query = url.Values{"after": {fmt.Sprint(v.Version)}}
		}
		if asJSON, _ := c.asJSON(); asJSON {
			return c.printValue(object{"versions": all})
		}
		table(c.stdout, rows)
		return nil
	}
}

// stateCall sends a request of a command that prints a sentence.
func stateCall(c *cli, mount, method, part, path string, query url.Values, body any, done string) error {
	a, err := c.api()
	if err != nil {
		return err
	}
	b, err := a.do(c, method, keyPath(mount, part, path), query, body)
	if err != nil {
		return stateError(err, mount, path)
	}
	if asJSON, _ := c.asJSON(); asJSON && len(b) > 0 {
		return c.printJSON(b)
	}
	fmt.Fprintln(c.stdout, done)
	return nil
}

func versionFlag(f *flag.FlagSet) *int { return f.Int("version", 0, "`number` of the version") }

func stateRollback(f *flag.FlagSet) action {
	mount, id, version := stateMount(f), lockIDFlag(f), versionFlag(f)
	return func(c *cli, args []string) error {
		if *version <= 0 {
			return hint(errors.New("which version?"), "say -version=N; sealkeep state history %s lists them", args[0])
		}
		return stateCall(c, *mount, http.MethodPost, "rollback", args[0], nil, object{"version": *version, "ID": *id},
			fmt.Sprintf("The newest version of %s has the content of version %d.", args[0], *version))
	}
}

func stateRemoveVersion(f *flag.FlagSet) action {
	mount, version := stateMount(f), versionFlag(f)
	return func(c *cli, args []string) error {
		if *version <= 0 {
			return hint(errors.New("which version?"), "say -version=N; sealkeep state history %s lists them", args[0])
		}
		return stateCall(c, *mount, http.MethodDelete, "version", args[0], url.Values{"version": {strconv.Itoa(*version)}}, nil,
			fmt.Sprintf("Version %d of %s is deleted.", *version, args[0]))
	}
}

func stateLock(f *flag.FlagSet) action {
	mount := stateMount(f)
	reason := f.String("reason", "", "`text` for those who are refused")
	return func(c *cli, args []string) error {
		who, host := "somebody", "unknown"
		if u, err := user.Current(); err == nil {
			who = u.Username
		}
		if h, err := os.Hostname(); err == nil {
			host = h
		}
		l := lockInfo{ID: storage.NewUUID(), Operation: "freeze", Info: *reason, Who: who + "@" + host, Version: "sealkeep", Created: time.Now().UTC().Format(time.RFC3339Nano), Path: args[0]}
		return stateCall(c, *mount, http.MethodPost, "lock", args[0], nil, l, fmt.Sprintf("The state %s is locked. Lock ID: %s", args[0], l.ID))
	}
}

func stateUnlock(f *flag.FlagSet) action {
	mount := stateMount(f)
	id := f.String("id", "", "`ID` of the lock; without it, whatever lock there is")
	return func(c *cli, args []string) error {
		done := fmt.Sprintf("The state %s is not locked.", args[0])
		if *id != "" {
			return stateCall(c, *mount, "UNLOCK", "lock", args[0], nil, object{"ID": *id}, done)
		}
		return stateCall(c, *mount, http.MethodPost, "force-unlock", args[0], nil, object{}, done)
	}
}

func stateDelete(f *flag.FlagSet) action {
	mount, id := stateMount(f), lockIDFlag(f)
	purge := f.Bool("purge", false, "delete all versions for good, too")
	return func(c *cli, args []string) error {
		if *purge {
			return stateCall(c, *mount, http.MethodDelete, "metadata", args[0], idQuery(*id), nil, fmt.Sprintf("The state %s and all its versions are deleted for good.", args[0]))
		}
		return stateCall(c, *mount, http.MethodDelete, "data", args[0], idQuery(*id), nil, fmt.Sprintf("The state %s is deleted; sealkeep state undelete %s brings it back.", args[0], args[0]))
	}
}

func stateUndelete(f *flag.FlagSet) action {
	mount := stateMount(f)
	return func(c *cli, args []string) error {
		return stateCall(c, *mount, http.MethodPost, "undelete", args[0], nil, nil, fmt.Sprintf("The state %s is back.", args[0]))
	}
}

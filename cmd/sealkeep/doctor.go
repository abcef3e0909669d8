package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealkeep/sealkeep/config"
	"github.com/sealkeep/sealkeep/recovery"
	"github.com/sealkeep/sealkeep/seal"
	"github.com/sealkeep/sealkeep/storage"
)

func doctorCommands() []command {
	return []command{{"doctor", "", 0, 0, local, "find out what is wrong, and what to do", `Tries everything that a keep needs, and changes nothing: the configuration, every key service step by step (connection and
certificates, clock, credentials or token, key, encrypting and decrypting), the store, each of its slots as it is stored,
listeners and disk. What fails has its class, what to do about it and, where something is not allowed, the policy to paste.

Run it as the keep's user, with its environment. While the keep runs it has the store for itself: then the states of the
slots are those that the keep tells.
Exit code: 0 all is well, 3 there are warnings only, 2 something failed, 1 it could not run (a wrong configuration, too).`, doctor}}
}

const (
	diagnoseTimeout = 60 * time.Second // limit for one seal
	openTimeout     = 10 * time.Second // limit for one slot

	waitingMost = 24 * time.Hour // how long two sets of shares or recipients may both be open

	littleSpace = 32 << 20 // bytes free on disk below which writes will soon fail
	spareSpace  = 64 << 20 // bytes needed, in addition to a copy of the store, to compact it and back it up
)

// A finding is one thing that the doctor looked at.
type finding struct {
	Scope string `json:"scope"` // as in the settings: "storage", `seal "awskms" named main`; or "slot main"
	seal.Step
}

// An examination collects findings. Its methods must not be called concurrently.
type examination struct {
	*cli
	conf     *config.Config
	seals    []*seal.Seal
	findings []finding
}

func (x *examination) ok(scope, name, format string, args ...any) {
	x.findings = append(x.findings, finding{scope, seal.Step{Name: name, OK: true, Text: fmt.Sprintf(format, args...)}})
}

func (x *examination) warn(scope, name, next, format string, args ...any) {
	x.findings = append(x.findings, finding{scope, seal.Step{Name: name, OK: true, Warning: true, Text: fmt.Sprintf(format, args...), Next: next}})
}

func (x *examination) fail(scope, name, next, format string, args ...any) {
	x.findings = append(x.findings, finding{scope, seal.Step{Name: name, Text: fmt.Sprintf(format, args...), Next: next}})
}

func doctor(f *flag.FlagSet) action {
	configs, format := configFlags(f)
	return func(c *cli, _ []string) error {
		c.remote.format = *format
		asJSON, err := c.asJSON()
		if err != nil {
			return err
		}
		conf, seals, err := loadConfig(*configs, c.lookup)
		if err != nil {
			return coded{err, 1}
		}
		defer closeAll(seals)
		x := &examination{cli: c, conf: conf, seals: seals}
		for _, w := range conf.Warnings {
			x.warn("configuration", "warning", "correct it, or live with it", "%s", w)
		}
		x.listeners()
		x.keyServices()
		x.store()
		x.disk()
		if c.Err() != nil {
			return coded{errors.New("the examination was interrupted"), 1}
		}
		return x.report(asJSON)
	}
}

// report prints the findings, and returns the error with the exit code.
func (x *examination) report(asJSON bool) error {
	failed, warned := 0, 0
	for _, f := range x.findings {
		switch {
		case !f.OK:
			failed++
		case f.Warning:
			warned++
		}
	}
	status, code := "ok", 0
	switch {
	case failed > 0:
		status, code = "failed", 2
	case warned > 0:
		status, code = "warnings", 3
	}
	if asJSON {
		if err := x.printValue(object{"status": status, "failed": failed, "warnings": warned, "settings": x.conf.Settings, "findings": x.findings}); err != nil {
			return err
		}
	} else {
		x.print()
		fmt.Fprintf(x.stdout, "\n%d failed, %d warnings, %d fine\n", failed, warned, len(x.findings)-failed-warned)
	}
	if code != 0 {
		return exit{code}
	}
	return nil
}

func (x *examination) print() {
	showSettings(x.stdout, x.conf)
	scope := ""
	for _, f := range x.findings {
		if f.Scope != scope {
			fmt.Fprintf(x.stdout, "\n%s\n", f.Scope)
			scope = f.Scope
		}
		mark, class := "ok  ", ""
		switch {
		case !f.OK:
			mark = "FAIL"
		case f.Warning:
			mark = "warn"
		}
		if f.Class != "" {
			class = f.Class + ": "
		}
		fmt.Fprintf(x.stdout, "  %s  %-16s %s%s\n", mark, f.Name, class, f.Text)
		if f.Next != "" {
			fmt.Fprintf(x.stdout, "        next: %s\n", f.Next)
		}
		for _, p := range f.Paste {
			fmt.Fprintf(x.stdout, "        into %s:\n", p.Into)
			for line := range strings.Lines(p.Text) {
				fmt.Fprintf(x.stdout, "            %s\n", strings.TrimSuffix(line, "\n"))
			}
		}
	}
}

// keyServices diagnoses all seals concurrently.
func (x *examination) keyServices() {
	if len(x.seals) == 0 {
		x.ok("seals", "none", "people open this keep, at each start")
	}
	steps := make([][]seal.Step, len(x.seals))
	var all sync.WaitGroup
	for i, s := range x.seals {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(x, diagnoseTimeout)
			defer cancel()
			steps[i] = s.Diagnose(ctx)
		})
	}
	all.Wait()
	for i, s := range x.seals {
		if address, ok := x.conf.Seals[i].Params["address"]; ok {
			x.ownAddress(sealScope(s), address.Value)
		}
		for _, step := range steps[i] {
			x.findings = append(x.findings, finding{sealScope(s), step})
		}
	}
}

// sealScope returns the scope of a seal as in the settings.
func sealScope(s *seal.Seal) string {
	if s.Name() == s.Type() {
		return fmt.Sprintf("seal %q", s.Type())
	}
	return fmt.Sprintf("seal %q named %s", s.Type(), s.Name())
}

// store examines the store on disk, or asks the running keep about it.
func (x *examination) store() {
	path := x.conf.Storage.Path
	file, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		x.warn("store", "file", "start the keep, then sealkeep operator init", "there is none at %s: the keep is not initialized", path)
		return
	case err != nil:
		x.fail("store", "file", "run this as the keep's user", "%v", err)
		return
	case file.Mode().Perm()&0o077 != 0:
		x.warn("store", "mode", "chmod 0600 "+path, "%s has mode %04o: others than its owner may use it", path, file.Mode().Perm())
	default:
		x.ok("store", "mode", "%04o", file.Mode().Perm())
	}
	info, err := storage.Inspect(path)
	switch {
	case errors.Is(err, storage.ErrLocked):
		x.runningKeep(err)
		return
	case errors.Is(err, storage.ErrCorrupt):
		x.fail("store", "file", "keep the file as it is, and restore a backup elsewhere", "%v", err)
		return
	case errors.Is(err, storage.ErrFormat):
		x.fail("store", "format", "use the version of sealkeep that wrote it, or a newer one", "%v", err)
		return
	case err != nil:
		x.fail("store", "file", "run this as the keep's user", "%v", err)
		return
	}
	x.ok("store", "file", "%s, %d bytes, %d values; nobody has it open, and its pages are whole", path, info.Size, info.Values)
	x.ok("store", "format", "%d, UUID %s", info.Format, info.UUID)
	x.slots(info)
}

// slots opens each stored slot with its seal. It unseals nothing, and clears the keys at once.
func (x *examination) slots(info storage.Info) {
	people := 0
	for _, slot := range info.Slots {
		if recoverySlot(slot.Name) {
			people++
			if !slot.Since.IsZero() {
				x.waiting("slot "+slot.Name, slot.Type, slot.Since)
				continue
			}
			x.ok("slot "+slot.Name, "recovery", "there since %s; people open it, so it was not tried (sealkeep operator recovery verify does)", slot.Created.UTC().Format(time.DateOnly))
			continue
		}
		s := x.sealOf(slot.Name, slot.Type)
		if s == nil {
			x.warn("slot "+slot.Name, "seal", "sealkeep operator slot remove "+slot.Name+", or add its seal block again", "no seal of the configuration has this name and the type %s, so nobody tries it", slot.Type)
			continue
		}
		ctx, cancel := context.WithTimeout(x, openTimeout)
		root, err := s.Unwrap(ctx, slot.Blob, slot.Context(info.UUID))
		cancel()
		clear(root)
		if e, ok := errors.AsType[*seal.Error](err); ok {
			x.fail("slot "+slot.Name, "open", seal.Advice(e.Kind), "%v", e)
			x.findings[len(x.findings)-1].Class = e.Class()
		} else if err != nil {
			x.fail("slot "+slot.Name, "open", "see the error", "%v", err)
		} else {
			x.ok("slot "+slot.Name, "open", "it opens, as it is stored; wrapped by %s on %s", slot.KeyID, slot.Created.UTC().Format(time.DateOnly))
		}
	}
	for _, s := range x.seals {
		if !s.Disabled() && !hasSlot(info.Slots, s) {
			x.warn("slot "+s.Name(), "slot", "start or reload the keep, and open it: it adds the slot (one of environment variables alone: sealkeep operator slot add "+s.Name()+")", "this seal has no slot in the store, so it cannot open it")
		}
	}
	x.recovery(people)
}

func hasSlot(slots []storage.Slot, s *seal.Seal) bool {
	for _, slot := range slots {
		if slot.Name == s.Name() && slot.Type == s.Type() {
			return true
		}
	}
	return false
}

// recoverySlot reports whether people open a slot. No seal may have such a name.
func recoverySlot(name string) bool { return strings.HasPrefix(name, "recovery-") }

// waiting reports a slot of new shares or recipients that waits to replace another one: as a warning at first, and as a
// failure after a day, since the old slot still opens the keep.
func (x *examination) waiting(scope, typ string, since time.Time) {
	next := "give enough of the new shares: sealkeep operator rekey -verify -; or take them away: sealkeep operator rekey -cancel"
	if typ == recovery.Age {
		next = "give a new identity: sealkeep operator recovery verify -identity=FILE; or name the old recipients again, and reload"
	}
	report := x.warn
	if time.Since(since) > waitingMost {
		report = x.fail
	}
	report(scope, "replacing", next, "new since %s, and nobody has opened the keep with it yet: what it is to replace opens the keep until then", since.UTC().Format(time.RFC3339))
}

func (x *examination) recovery(slots int) {
	if slots == 0 {
		x.warn("recovery", "slots", "sealkeep operator rekey makes recovery shares, recovery \"age\" in the configuration names identities that may open the keep",
			"there are none: when the keys of all key services are lost, so is the store, and every copy of it")
		return
	}
	x.ok("recovery", "slots", "%d", slots)
}

func (x *examination) sealOf(name, typ string) *seal.Seal {
	for _, s := range x.seals {
		if s.Name() == name && s.Type() == typ {
			return s
		}
	}
	return nil
}

// disk examines the free space where the store is.
func (x *examination) disk() {
	dir := filepath.Dir(x.conf.Storage.Path)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		dir = filepath.Dir(dir) // init creates the last folder itself
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		next := "make it (StateDirectory= in the unit does), or correct the path"
		if !errors.Is(err, fs.ErrNotExist) {
			next = "run this as the keep's user"
		}
		x.fail("disk", "space", next, "%s: %v", dir, err)
		return
	}
	var size int64
	if file, err := os.Stat(x.conf.Storage.Path); err == nil {
		size = file.Size()
	}
	free := int64(st.Bavail) * int64(st.Bsize)
	text := fmt.Sprintf("%d MiB free in %s", free>>20, dir)
	switch {
	case free < littleSpace:
		x.fail("disk", "space", "make room: without it the keep writes nothing more", "%s", text)
	case free < size+spareSpace:
		x.warn("disk", "space", "make room for a copy of the store", "%s, and compacting the store or backing it up there needs %d", text, (size+spareSpace)>>20)
	default:
		x.ok("disk", "space", "%s", text)
	}
	if err := unix.Access(dir, unix.W_OK); err != nil {
		x.fail("disk", "writing", "mount it for writing, or give the folder to the keep's user; and run this as that user", "%s: %v", dir, err)
	}
}

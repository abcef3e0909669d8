package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sealkeep/sealkeep/audit"
	"github.com/sealkeep/sealkeep/config"
)

func auditCommands() []command {
	return []command{
		{"audit list", "", 0, 0, client, "list the audit devices", "Lists the devices of the audit log. With -detailed it shows their options, how many lines each has, and what it fails with.", auditList},
		{"audit enable", "TYPE [KEY=VALUE...]", 1, -1, client, "add an audit device", auditEnableHelp, auditEnable},
		{"audit disable", "PATH", 1, 1, client, "remove an audit device", "Removes an audit device that was added over the API. What it has written stays; which values its lines are about can then\nno longer be asked.", auditDisable},
		{"audit verify", "FILE...", 1, -1, client, "check that nobody changed an audit log", auditVerifyHelp, auditVerify},
	}
}

const auditEnableHelp = `Adds an audit device of a TYPE: file, journal or socket, with its options, where the configuration allows that
(unsafe_allow_api_audit_creation). A block audit "TYPE" { ... } in the configuration does the same without it.

    sealkeep audit enable file file_path=/var/log/sealkeep/audit.log`

const auditVerifyHelp = `Checks the lines of an audit log: that none was changed, removed, moved or repeated, since each carries the hash of the one
before. Several files are checked as one log, in the order given, the oldest first; "-" is standard input. It begins with
line 1, or the one that -from names.

That lines are missing at the end only the keep can tell. When there is a token that may read sys/audit, it is asked for
the number and the hash of the last line that it had written before it was asked: of the device with this file, or the one
that -device names. What comes from another program may be older than that on a busy keep: if lines are missing at its end
alone, check again.
Exit code: 0 nothing found, 2 something was found, 1 the check could not be made.`

// auditDevice is a device as sys/audit shows it.
type auditDevice struct {
	Path        string            `json:"path"`
	Type        string            `json:"type"`
	Description string            `json:"description"`
	Options     map[string]string `json:"options"`
	Head        audit.Head        `json:"head"`
	Failing     string            `json:"failing"`
}

func (c *cli) auditDevices(a *keepClient) (list []auditDevice, raw []byte, err error) {
	raw, err = a.do(c, http.MethodGet, "sys/audit", nil, nil)
	if err != nil {
		return nil, nil, err
	}
	var answer struct{ Data map[string]auditDevice }
	if err := decode(raw, &answer); err != nil {
		return nil, nil, err
	}
	for _, path := range slices.Sorted(maps.Keys(answer.Data)) {
		list = append(list, answer.Data[path])
	}
	return list, raw, nil
}

func auditList(f *flag.FlagSet) action {
	detailed := f.Bool("detailed", false, "show options and state, too")
	return func(c *cli, _ []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		list, raw, err := c.auditDevices(a)
		if err != nil {
			return err
		}
		if asJSON, _ := c.asJSON(); asJSON {
			var answer struct{ Data map[string]any }
			if err := decode(raw, &answer); err != nil {
				return err
			}
			return c.printValue(answer.Data)
		}
		if len(list) == 0 {
			fmt.Fprintln(c.stdout, "No audit devices are enabled.")
			return exit{2}
		}
		rows := [][]string{{"Path", "Type", "Description"}}
		if *detailed {
			rows[0] = append(rows[0], "Lines", "State", "Options")
		}
		for _, d := range list {
			row := []string{d.Path, d.Type, d.Description}
			if *detailed {
				state := "works"
				if d.Failing != "" {
					state = "fails: " + d.Failing
				}
				var options []string
				for _, key := range slices.Sorted(maps.Keys(d.Options)) {
					options = append(options, key+"="+d.Options[key])
				}
				row = append(row, fmt.Sprint(d.Head.Seq), state, strings.Join(options, " "))
			}
			rows = append(rows, row)
		}
		table(c.stdout, rows)
		return nil
	}
}

func auditEnable(f *flag.FlagSet) action {
	path := f.String("path", "", "`path` of the device; default is its type")
	description := f.String("description", "", "any `text`")
	f.Bool("local", false, "has no effect: there is one node")
	return func(c *cli, args []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		options, err := c.data(args[1:])
		if err != nil {
			return err
		}
		at := strings.Trim(*path, "/")
		if at == "" {
			at = args[0]
		}
		_, err = a.do(c, http.MethodPut, "sys/audit/"+at, nil, object{"type": args[0], "description": *description, "options": options})
		return c.done(err, fmt.Sprintf("Success! Enabled the %s audit device at: %s/", args[0], at))
	}
}

func auditDisable(*flag.FlagSet) action {
	return func(c *cli, args []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		path := strings.Trim(args[0], "/")
		_, err = a.do(c, http.MethodDelete, "sys/audit/"+path, nil, nil)
		return c.done(err, "Success! Disabled audit device (if it was enabled) at: "+path+"/")
	}
}

func auditVerify(f *flag.FlagSet) action {
	from := f.Uint64("from", 1, "`number` of the first line, where older files are gone; 0: whatever it is")
	name := f.String("device", "", "`path` of the audit device that wrote the log; else the one that writes to the last FILE")
	return func(c *cli, files []string) error {
		asJSON, err := c.asJSON()
		if err != nil {
			return err
		}
		if i := slices.Index(files, "-"); i >= 0 && slices.Contains(files[i+1:], "-") {
			return errors.New("standard input can be read once")
		}
		last := files[len(files)-1]
		v := audit.Verifier{From: *from}
		v.Known, err = c.auditHead(strings.Trim(*name, "/"), last) // before the files are read, since they may grow
		switch {
		case err != nil && *name != "":
			return err
		case err != nil:
			c.warnf("whether lines are missing at the end is not known: %v", err)
		}
		for _, file := range files {
			if err := c.verifyFile(&v, file); err != nil {
				return err
			}
		}
		v.Close(source(last))
		if asJSON {
			out := object{"lines": v.Lines, "first": v.First, "last": v.Last, "end_known": v.Known.Seq > 0, "findings": v.Findings, "more_findings": v.More}
			if err := c.printValue(out); err != nil {
				return err
			}
		} else {
			for _, finding := range v.Findings {
				fmt.Fprintln(c.stdout, "finding: "+finding)
			}
			if v.More > 0 {
				fmt.Fprintf(c.stdout, "finding: %d more\n", v.More)
			}
		}
		switch {
		case len(v.Findings) > 0:
			return coded{hint(fmt.Errorf("the audit log is not as it was written (findings: %d)", len(v.Findings)+v.More),
				"keep the files as they are; compare them with copies elsewhere"), 2}
		case asJSON:
		case v.Lines == 0:
			fmt.Fprintln(c.stdout, "There are no lines.")
		default:
			fmt.Fprintf(c.stdout, "Nothing was changed: %d lines, from %d to %d of the log, the last with the hash %s\n", v.Lines, v.First.Seq, v.Last.Seq, v.Last.Hash)
		}
		return nil
	}
}

func (c *cli) verifyFile(v *audit.Verifier, file string) error {
	var in io.Reader
	if file == "-" {
		in = c.input()
	} else {
		f, err := os.Open(file)
		if err != nil {
			return fmt.Errorf("reading the audit log: %w", err)
		}
		defer f.Close()
		in = f
	}
	return v.Read(source(file), in)
}

// auditHead asks the keep for the last line written by a device, found by its name or by its file.
func (c *cli) auditHead(name, file string) (audit.Head, error) {
	var none audit.Head
	a, err := c.api()
	if err != nil {
		return none, err
	}
	if a.token == "" {
		return none, errors.New("there is no token to ask the keep with (VAULT_TOKEN, or sealkeep login)")
	}
	list, _, err := c.auditDevices(a)
	if err != nil {
		return none, fmt.Errorf("asking the keep: %w", err)
	}
	path := ""
	if file != "-" {
		if path, err = filepath.Abs(file); err != nil {
			return none, err
		}
	}
	for _, d := range list {
		if name != "" && d.Path == name+"/" || name == "" && path != "" && d.Type == "file" && d.Options["file_path"] == path {
			return d.Head, nil
		}
	}
	if name != "" {
		return none, hint(fmt.Errorf("the keep has no audit device at %s/", name), "sealkeep audit list shows them")
	}
	if path == "" {
		return none, errors.New("which device has written what is on standard input? -device names it")
	}
	return none, fmt.Errorf("the keep has no audit device that writes to %s: -device names one", path)
}

// auditConfig returns the audit devices of a configuration, in the form that the keep takes.
func auditConfig(conf *config.Config) []audit.Device {
	var devices []audit.Device
	for _, a := range conf.Audit {
		devices = append(devices, audit.Device{Path: a.Name + "/", Type: a.Type, Description: a.Description, Options: a.Options})
	}
	return devices
}

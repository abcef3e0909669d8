package main

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/sealkeep/sealkeep/api"
)

func secretsCommands() []command {
	return []command{
		{"secrets enable", "TYPE", 1, 1, client, "enable a secrets engine", "Enables a secrets engine of a TYPE. Its path is the type's name, or -path.\n\n" + typeHelp(api.Secrets), secretsEnable},
		{"secrets disable", "PATH", 1, 1, client, "disable a secrets engine and remove its data", "Disables the secrets engine at PATH. Everything in it is removed for good.", secretsDisable},
		{"secrets move", "FROM TO", 2, 2, client, "give a secrets engine another path", "Moves the secrets engine at the path FROM to the path TO, with all that is in it. Policies are not changed: they have to name the new path.", mountMove("", "secrets engine")},
		{"secrets list", "", 0, 0, client, "list the secrets engines", "Lists the secrets engines that are enabled.", secretsList},
	}
}

func secretsEnable(f *flag.FlagSet) action {
	path := f.String("path", "", "`path` of the engine; else the name of its type")
	version := f.String("version", "", "`version` of the engine, where its type has several; else the newest")
	description := f.String("description", "", "`text` about the engine, for people")
	return func(c *cli, args []string) error {
		at := strings.Trim(cmp.Or(*path, args[0]), "/")
		body := object{"type": args[0], "description": *description}
		if *version != "" {
			body["options"] = object{"version": *version}
		}
		a, err := c.api()
		if err != nil {
			return err
		}
		b, err := a.do(c, http.MethodPost, "sys/mounts/"+at, nil, body)
		if err != nil {
			return err
		}
		return c.answer(b, "", fmt.Sprintf("Success! Enabled the %s secrets engine at: %s/", args[0], at)) // which may have warnings
	}
}

func secretsDisable(*flag.FlagSet) action {
	return func(c *cli, args []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		at := strings.Trim(args[0], "/")
		_, err = a.do(c, http.MethodDelete, "sys/mounts/"+at, nil, nil)
		return c.done(err, fmt.Sprintf("Success! Disabled the secrets engine (if it existed) at: %s/", at))
	}
}

// mountMove returns the command that moves a mount to another path below prefix.
func mountMove(prefix, what string) func(*flag.FlagSet) action {
	return func(*flag.FlagSet) action {
		return func(c *cli, args []string) error {
			a, err := c.api()
			if err != nil {
				return err
			}
			at := func(path string) string { return prefix + strings.Trim(strings.TrimPrefix(path, prefix), "/") + "/" }
			_, err = a.do(c, http.MethodPost, "sys/remount", nil, object{"from": at(args[0]), "to": at(args[1])})
			return c.done(err, fmt.Sprintf("Success! Moved the %s at %s to: %s", what, at(args[0]), at(args[1])))
		}
	}
}

func secretsList(f *flag.FlagSet) action {
	detailed := f.Bool("detailed", false, "show everything about them")
	return func(c *cli, _ []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		return c.listMounts(a, "sys/mounts", *detailed)
	}
}

// listMounts prints the mounts: secrets engines or login methods.
func (c *cli) listMounts(a *keepClient, path string, detailed bool) error {
	b, err := a.do(c, http.MethodGet, path, nil, nil)
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
	var mounts map[string]struct {
		Type, Accessor, Description, UUID string
		Options                           map[string]string
		Config                            struct {
			Default int64 `json:"default_lease_ttl"`
			Max     int64 `json:"max_lease_ttl"`
		}
	}
	if err := decode(answer.Data, &mounts); err != nil {
		return err
	}
	rows := [][]string{{"Path", "Type", "Accessor", "Description"}}
	if detailed {
		rows[0] = []string{"Path", "Type", "Accessor", "Default TTL", "Max TTL", "Options", "Description", "UUID"}
	}
	ttl := func(n int64) string {
		if n == 0 {
			return "system"
		}
		return fmt.Sprint(n)
	}
	for _, path := range slices.Sorted(maps.Keys(mounts)) {
		m := mounts[path]
		row := []string{path, m.Type, cmp.Or(m.Accessor, "n/a"), cmp.Or(m.Description, "n/a")}
		if detailed {
			var options []string
			for _, k := range slices.Sorted(maps.Keys(m.Options)) {
				options = append(options, k+":"+m.Options[k])
			}
			row = []string{path, m.Type, cmp.Or(m.Accessor, "n/a"), ttl(m.Config.Default), ttl(m.Config.Max),
				"map[" + strings.Join(options, " ") + "]", cmp.Or(m.Description, "n/a"), cmp.Or(m.UUID, "n/a")}
		}
		rows = append(rows, row)
	}
	table(c.stdout, rows)
	return nil
}

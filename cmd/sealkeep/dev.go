package main

import (
	"cmp"
	"fmt"

	"github.com/sealkeep/sealkeep/config"
	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/seal"
)

// devConfig returns the configuration of -dev: one plain HTTP listener, and a static seal with a random key that exists
// only in memory. The caller sets the path of the store.
func (d *daemon) devConfig() (*config.Config, []*seal.Seal, error) {
	key, id := seal.NewKey()
	s := config.Seal{Type: "static", Name: "dev", Priority: 1, At: "-dev", Params: map[string]config.Param{
		"current_key":    {Value: key, Origin: "-dev"},
		"current_key_id": {Value: id, Origin: "-dev"},
	}}
	made, err := seal.New(s)
	if err != nil {
		return nil, nil, err
	}
	return &config.Config{
		Listeners: []config.Listener{{Type: "tcp", Address: cmp.Or(d.o.devAddr, d.env("DEV_LISTEN_ADDRESS"), "127.0.0.1:8200"), TLSDisable: true, At: "-dev"}},
		Seals:     []config.Seal{s},

		AllowAuditAPI: true,
	}, []*seal.Seal{made}, nil
}

// initDev initializes the keep of -dev and prints what to type.
func (d *daemon) initDev() error {
	answer, err := d.keep.Init(d, keep.InitRequest{RootToken: cmp.Or(d.o.devToken, d.env("DEV_ROOT_TOKEN_ID"))})
	if err != nil {
		return fmt.Errorf("initializing the keep of -dev: %w", err)
	}
	fmt.Fprintf(d.stdout, `
WARNING: this is dev mode. It is NOT SAFE FOR PRODUCTION: the key is in memory, the store
in a temporary folder, and both are gone when this process ends.

In another terminal:

    export VAULT_ADDR=%s
    export VAULT_TOKEN=%s

    sealkeep kv put secret/hello name=world
    sealkeep kv get secret/hello

`, d.listeners[0].url(), answer.RootToken)
	return nil
}

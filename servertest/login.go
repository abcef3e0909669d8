package servertest

import (
	"testing"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/login"
	"github.com/sealkeep/sealkeep/storage"
)

// LoginType is a login method, test, that lets everybody in who says "right". What tokens are like is written to its role.
func LoginType() api.Type {
	var params access.TokenParams
	gone := false
	type loginInput struct {
		Name string `json:"name"`
		Word string `json:"word"`
	}
	method := api.Type{
		Name: "test", Kind: api.Login,
		Routes: []api.Route{
			{Path: "role", Ops: map[api.Op]api.Handler{
				api.Write: api.Do(func(_ *api.Request, in *login.TokenFields) (api.Answer, error) {
					next := params
					warnings, err := in.Apply(&next)
					if err == nil {
						params = next
					}
					return api.Answer{Warnings: warnings}, err
				}),
				api.Read: api.Do(func(*api.Request, *api.None) (api.Answer, error) {
					return api.Answer{Data: login.ViewParams(&params, map[string]any{})}, nil
				}),
				api.Delete: api.Do(func(*api.Request, *api.None) (api.Answer, error) {
					gone = true
					return api.Answer{}, nil
				}),
			}},
			{Path: "login", Gate: api.Unsealed, Ops: map[api.Op]api.Handler{api.Write: api.LogIn(
				func(_ *api.Request, in *loginInput) (name, group string, err error) { return in.Name, "", nil },
				func(r *api.Request, in *loginInput) (api.Proof, error) {
					return func(tx *storage.Tx) (*access.Login, error) {
						if in.Word != "right" {
							return nil, api.Invalid.Errorf("wrong word")
						}
						return &access.Login{Name: in.Name, DisplayName: in.Name, Params: params, Meta: map[string]string{"who": in.Name}}, tx.Put(r.Prefix()+"/seen", []byte("{}"))
					}, nil
				})}},
		},
		Renew: func(_ *api.Request, _ *storage.Tx, _ *api.Mount, t *access.Token) (*access.TokenParams, error) {
			if gone {
				return nil, api.Invalid.Errorf("%s does not exist any more", t.Login)
			}
			return &params, nil
		},
	}
	return method
}

// Enter logs in with the method test that is enabled at path, and returns the token, too.
func (f *Fixture) Enter(t testing.TB, path, name string, headers ...string) (Reply, string) {
	t.Helper()
	r := f.Must(t, 200, "POST", "auth/"+path+"/login", `{"name":"`+name+`","word":"right"}`, append(headers, "X-Vault-Token: ")...)
	return r, r.Get("auth", "client_token").(string)
}

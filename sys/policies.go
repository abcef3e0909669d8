package sys

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/storage"
)

// policyRoutes is the API of policies, below sys/.
func policyRoutes() []api.Route {
	list, listOld := api.View(listPolicies).Answers(api.Names{}), api.View(listPoliciesOld).Answers(oldNames{})
	return []api.Route{
		{Path: "policies/acl", Help: "The names of the policies.",
			Ops: map[api.Op]api.Handler{api.Read: list, api.List: list}},
		{Path: "policies/acl/{name...}", Help: "A policy.", Folded: true, Settings: true, Body: 2 * access.MaxPolicy,
			Ops: map[api.Op]api.Handler{api.Read: api.View(readPolicy).Answers(policyView{}), api.Write: api.Do(writePolicy), api.Delete: api.Do(deletePolicy)}},
		{Path: "policy", Help: "The names of the policies, at Vault's older path.",
			Ops: map[api.Op]api.Handler{api.Read: listOld, api.List: listOld}},
		{Path: "policy/{name...}", Help: "A policy, at Vault's older path.", Folded: true, Settings: true, Body: 2 * access.MaxPolicy,
			Ops: map[api.Op]api.Handler{api.Read: api.View(readPolicyOld).Answers(oldPolicyView{}), api.Write: api.Do(writePolicy), api.Delete: api.Do(deletePolicy)}},
	}
}

func listPolicies(_ *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	names, err := access.ListPolicies(tx)
	return api.Answer{Data: api.Names{Keys: names}}, err
}

type oldNames struct {
	Keys     []string `json:"keys"`
	Policies []string `json:"policies"`
}

// listPoliciesOld is the list at the older path, which has it under two names.
func listPoliciesOld(_ *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	names, err := access.ListPolicies(tx)
	return api.Answer{Data: oldNames{names, names}, Inject: true}, err
}

type policyView struct {
	Name   string `json:"name"`
	Policy string `json:"policy"`
}

type oldPolicyView struct {
	Name  string `json:"name"`
	Rules string `json:"rules"`
}

func readPolicy(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	p, err := policyOf(r, tx)
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Data: policyView{access.PolicyName(r.Param("name")), p.Text}}, nil
}

func readPolicyOld(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	p, err := policyOf(r, tx)
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Data: oldPolicyView{access.PolicyName(r.Param("name")), p.Text}, Inject: true}, nil
}

func policyOf(r *api.Request, tx *storage.Tx) (*access.Policy, error) {
	p, err := access.GetPolicy(tx, r.Param("name"))
	if err == nil && p == nil {
		err = api.ErrAbsent
	}
	return p, err
}

type policyInput struct {
	Policy json.RawMessage `json:"policy"` // a text, or the policy as JSON
	Rules  json.RawMessage `json:"rules"`  // Vault's older name
}

func writePolicy(r *api.Request, in *policyInput) (api.Answer, error) {
	text := cmp.Or(api.Scalar(in.Policy), api.Scalar(in.Rules))
	if text == "" {
		return api.Answer{}, api.Invalid.Errorf("'policy' parameter not supplied or empty")
	}
	if plain, err := base64.StdEncoding.DecodeString(text); err == nil {
		text = string(plain)
	}
	p, err := access.ParsePolicy(access.PolicyName(r.Param("name")), text)
	if err != nil {
		return api.Answer{}, err
	}
	u := keep.Of(r)
	if err := u.ChangePolicies(r.Context, func(tx *storage.Tx) error { return access.PutPolicy(tx, p) }); err != nil {
		return api.Answer{}, err
	}
	r.Frame.Log().Info("policy written", "policy", p.Name, "request", r.ID)
	return api.Answer{Warnings: unmatched(r, p)}, nil
}

// unmatched warns of rules that no request matches, because the name in their path
// is not canonical.
func unmatched(r *api.Request, p *access.Policy) (warnings []string) {
	for _, path := range p.Paths() {
		text, prefix := strings.CutSuffix(path, "*")
		want := r.Frame.Canonical(text)
		if want == text {
			continue
		}
		if prefix {
			want += "*"
		}
		warnings = append(warnings, fmt.Sprintf("The rule for %q matches no request, because names there are in lower case: write %q", path, want))
	}
	return warnings
}

func deletePolicy(r *api.Request, _ *api.None) (api.Answer, error) {
	name := r.Param("name")
	if err := keep.Of(r).ChangePolicies(r.Context, func(tx *storage.Tx) error { return access.DeletePolicy(tx, name) }); err != nil {
		return api.Answer{}, err
	}
	r.Frame.Log().Info("policy deleted", "policy", access.PolicyName(name), "request", r.ID)
	return api.Answer{}, nil
}

package server

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// What is kept in memory of parsed policies, and as much of compiled sets of them.
// Tokens with the same policies share one.
const (
	maxACLs     = 4096
	maxACLBytes = 32 << 20
)

// A policyCache has every policy parsed and every set of them compiled once. A
// change of a policy replaces the generation; what a reader of the old one still
// adds there is lost with it.
type policyCache struct {
	current atomic.Pointer[policyGeneration]
}

type policyGeneration struct {
	mu       sync.RWMutex
	policies sizedCache[*access.Policy]
	acls     sizedCache[*access.ACL] // by the names of the policies
}

// A sizedCache has maxACLs values that take maxACLBytes, or one that takes more.
type sizedCache[T any] struct {
	values map[string]sizedValue[T]
	bytes  int
}

type sizedValue[T any] struct {
	value T
	size  int
}

func (c *sizedCache[T]) put(key string, value T, size int) {
	size += 128 + len(key)
	if c.values == nil {
		c.values = make(map[string]sizedValue[T])
	}
	c.drop(key)
	for old := range c.values { // in random order
		if len(c.values) < maxACLs && c.bytes+size <= maxACLBytes {
			break
		}
		c.drop(old)
	}
	c.values[key] = sizedValue[T]{value, size}
	c.bytes += size
}

func (c *sizedCache[T]) drop(key string) {
	c.bytes -= c.values[key].size
	delete(c.values, key)
}

// load returns the generation that counts.
func (c *policyCache) load() *policyGeneration {
	if g := c.current.Load(); g != nil {
		return g
	}
	c.current.CompareAndSwap(nil, new(policyGeneration))
	return c.current.Load()
}

// forget is called after every change of a policy, whatever its outcome, before
// anybody is told of it.
func (c *policyCache) forget() { c.current.Store(new(policyGeneration)) }

// acl returns what a token's policies allow; of nil: nothing. Names without a
// policy allow nothing.
func (k *keep) acl(ctx context.Context, t *access.Token) (*access.ACL, error) {
	if t == nil || len(t.Policies) == 0 {
		return new(access.ACL), nil
	}
	var buf [256]byte
	key := buf[:0] // names of any text make different keys, for each begins with its length
	for _, name := range t.Policies {
		key = append(append(strconv.AppendInt(key, int64(len(name)), 10), ':'), name...)
	}
	g := k.policies.load()
	g.mu.RLock()
	acl := g.acls.values[string(key)].value
	g.mu.RUnlock()
	if acl != nil {
		return acl, nil
	}
	policies, err := k.readPolicies(ctx, g, t.Policies)
	if err != nil {
		return nil, err
	}
	acl = access.NewACL(policies)
	size := acl.Size()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.acls.put(string(key), acl, size)
	return acl, nil
}

// readPolicies returns those of the policies that are there.
func (k *keep) readPolicies(ctx context.Context, g *policyGeneration, names []string) (policies []*access.Policy, err error) {
	var read []*access.Policy
	err = k.store.View(ctx, func(tx *storage.Tx) error {
		for _, name := range names {
			g.mu.RLock()
			p := g.policies.values[name].value
			g.mu.RUnlock()
			if p == nil {
				if p, err = access.GetPolicy(tx, name); err != nil {
					return err
				}
				if p == nil {
					continue
				}
				read = append(read, p)
			}
			policies = append(policies, p)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range read {
		g.policies.put(p.Name, p, p.Size())
	}
	return policies, nil
}

// changePolicies runs fn, which changes policies, in an Update.
func (k *keep) changePolicies(ctx context.Context, fn func(*storage.Tx) error) error {
	defer k.policies.forget()
	return k.store.Update(ctx, fn)
}

// policyRoutes is the API of policies, below sys/.
func (s *Server) policyRoutes() []api.Route {
	return []api.Route{
		{Path: "policies/acl", Help: "The names of the policies.",
			Ops: map[api.Op]api.Handler{api.Read: api.View(listPolicies), api.List: api.View(listPolicies)}},
		{Path: "policies/acl/{name...}", Help: "A policy.", Folded: true, Settings: true, Body: bodyPolicy,
			Ops: map[api.Op]api.Handler{api.Read: api.View(readPolicy), api.Write: api.Do(s.writePolicy), api.Delete: api.Do(deletePolicy)}},
		{Path: "policy", Help: "The names of the policies, at Vault's older path.",
			Ops: map[api.Op]api.Handler{api.Read: api.View(listPoliciesOld), api.List: api.View(listPoliciesOld)}},
		{Path: "policy/{name...}", Help: "A policy, at Vault's older path.", Folded: true, Settings: true, Body: bodyPolicy,
			Ops: map[api.Op]api.Handler{api.Read: api.View(readPolicyOld), api.Write: api.Do(s.writePolicy), api.Delete: api.Do(deletePolicy)}},
	}
}

func listPolicies(_ *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	names, err := access.ListPolicies(tx)
	return api.Answer{Data: map[string]any{"keys": names}}, err
}

// listPoliciesOld is the list at the older path, which has it under two names.
func listPoliciesOld(_ *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	names, err := access.ListPolicies(tx)
	return api.Answer{Data: map[string]any{"keys": names, "policies": names}, Inject: true}, err
}

func readPolicy(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	p, err := policyOf(r, tx)
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Data: map[string]any{"name": access.PolicyName(r.Param("name")), "policy": p.Text}}, nil
}

func readPolicyOld(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	p, err := policyOf(r, tx)
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Data: map[string]any{"name": access.PolicyName(r.Param("name")), "rules": p.Text}, Inject: true}, nil
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

func (s *Server) writePolicy(r *api.Request, in *policyInput) (api.Answer, error) {
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
	k := unsealedOf(r)
	if err := k.changePolicies(r.Context, func(tx *storage.Tx) error { return access.PutPolicy(tx, p) }); err != nil {
		return api.Answer{}, err
	}
	r.Frame.Log().Info("policy written", "policy", p.Name, "request", r.ID)
	return api.Answer{Warnings: s.unmatched(k, p)}, nil
}

// unmatched warns of rules that no request matches, because the name in their path
// is not canonical.
func (s *Server) unmatched(k *keep, p *access.Policy) (warnings []string) {
	for _, path := range p.Paths() {
		text, prefix := strings.CutSuffix(path, "*")
		want := s.canonicalPath(k, text)
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
	if err := unsealedOf(r).changePolicies(r.Context, func(tx *storage.Tx) error { return access.DeletePolicy(tx, name) }); err != nil {
		return api.Answer{}, err
	}
	r.Frame.Log().Info("policy deleted", "policy", access.PolicyName(name), "request", r.ID)
	return api.Answer{}, nil
}

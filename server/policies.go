package server

import (
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

func (r *request) listPolicies() (names []string, err error) {
	err = r.keep.store.View(r.Context, func(tx *storage.Tx) (err error) {
		names, err = access.ListPolicies(tx)
		return err
	})
	return names, err
}

func listPolicies(s *Server, r *request) (answer, error) {
	names, err := r.listPolicies()
	return answer{data: map[string]any{"keys": names}}, err
}

// listPoliciesOld is the list at the older path, which has it under two names.
func listPoliciesOld(s *Server, r *request) (answer, error) {
	names, err := r.listPolicies()
	return answer{data: map[string]any{"keys": names, "policies": names}, inject: true}, err
}

func readPolicy(s *Server, r *request) (answer, error) { return r.readPolicy("policy", false) }

func readPolicyOld(s *Server, r *request) (answer, error) { return r.readPolicy("rules", true) }

// readPolicy answers with a policy, its text in the field that the path has.
func (r *request) readPolicy(field string, inject bool) (answer, error) {
	var text string
	err := r.keep.store.View(r.Context, func(tx *storage.Tx) error {
		p, err := access.GetPolicy(tx, r.rest)
		if err == nil && p == nil {
			err = api.ErrAbsent
		}
		if err == nil {
			text = p.Text
		}
		return err
	})
	return answer{data: map[string]any{"name": access.PolicyName(r.rest), field: text}, inject: inject}, err
}

func writePolicy(s *Server, r *request) (answer, error) {
	var in struct {
		Policy json.RawMessage `json:"policy"`
		Rules  json.RawMessage `json:"rules"` // Vault's older name
	}
	if err := r.settings(&in); err != nil {
		return answer{}, err
	}
	text := api.Scalar(in.Policy)
	if text == "" {
		text = api.Scalar(in.Rules)
	}
	if text == "" {
		return answer{}, invalid("'policy' parameter not supplied or empty")
	}
	if plain, err := base64.StdEncoding.DecodeString(text); err == nil {
		text = string(plain)
	}
	p, err := access.ParsePolicy(access.PolicyName(r.rest), text)
	if err != nil {
		return answer{}, err
	}
	if err := r.keep.changePolicies(r.Context, func(tx *storage.Tx) error { return access.PutPolicy(tx, p) }); err != nil {
		return answer{}, err
	}
	s.log.Info("policy written", "policy", p.Name, "request", r.ID)
	return answer{warnings: s.unmatched(r.keep, p)}, nil
}

// unmatched warns of rules that no request has, for the name in their path is not
// canonical.
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

func deletePolicy(s *Server, r *request) (answer, error) {
	if err := r.keep.changePolicies(r.Context, func(tx *storage.Tx) error { return access.DeletePolicy(tx, r.rest) }); err != nil {
		return answer{}, err
	}
	s.log.Info("policy deleted", "policy", access.PolicyName(r.rest), "request", r.ID)
	return answer{}, nil
}

package server

import (
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/sealkeep/sealkeep/api"
)

// Listener is what the handler must know of the listener that it serves.
type Listener struct {
	// UnauthenticatedMetricsAccess lets anyone read sys/metrics while
	// unsealed. While sealed everyone may.
	UnauthenticatedMetricsAccess bool
	// Operator lets root, and nobody else, lift the hold of a keep that was
	// sealed by request. It is for unix sockets that root alone can use.
	Operator bool
	// Forwarded says whose X-Forwarded-For is believed; default nobody's.
	Forwarded Forwarded
}

// readHead refuses what the request must not ignore, and reads what it wants: the
// path, the operation, the query.
func (s *Server) readHead(r *request) (err error) {
	if err := r.listen.Forwarded.apply(r.http); err != nil {
		return err
	}
	r.Caller.Source = r.source()
	if err := refuse(r.http.Header); err != nil {
		return err
	}
	if r.WrapIn, err = wrapTTL(r.http.Header); err != nil {
		return err
	}
	path := r.http.URL.Path
	if !strings.HasPrefix(path, "/v1/") {
		path = s.tables.outside.path(path)
	}
	if r.Path, err = api.CleanPath(path); err != nil {
		return err
	}
	r.Slash = strings.HasSuffix(path, "/")
	if raw := r.http.URL.RawQuery; raw != "" {
		if r.Query, err = url.ParseQuery(raw); err != nil {
			return invalid("failed to parse the query: %v", err)
		}
	}
	if r.Op, r.known, err = operation(r.http.Method, r.Query); err != nil || r.Query == nil || r.http.Method != http.MethodGet {
		return err
	}
	if r.help, err = truth(r.Query, "help"); r.help {
		r.Op = api.Read
	}
	return err
}

// refuse rejects headers that would change the meaning of the request if they
// were heeded, and that must not be ignored therefore.
func refuse(h http.Header) error {
	for _, ns := range h["X-Vault-Namespace"] {
		if name := strings.Trim(ns, "/"); name != "" && name != "root" {
			return invalid("namespaces are not supported: remove the header X-Vault-Namespace (VAULT_NAMESPACE)")
		}
	}
	return nil
}

// operation tells what a method wants; known is false for methods that no route
// has.
func operation(method string, q url.Values) (o api.Op, known bool, err error) {
	switch method {
	case http.MethodGet:
		list, err := truth(q, "list")
		if err != nil {
			return 0, true, err
		}
		scan, err := truth(q, "scan")
		switch {
		case err != nil:
			return 0, true, err
		case list && scan:
			return 0, true, invalid("the parameters list and scan cannot both be true")
		case list:
			return api.List, true, nil
		case scan:
			return api.Scan, true, nil
		}
		return api.Read, true, nil
	case "LIST":
		return api.List, true, nil
	case "SCAN":
		return api.Scan, true, nil
	case http.MethodPost, http.MethodPut:
		return api.Write, true, nil
	case http.MethodPatch:
		return api.Patch, true, nil
	case http.MethodDelete:
		return api.Delete, true, nil
	case http.MethodHead:
		return api.Head, true, nil
	}
	return 0, false, nil
}

// truth reads a parameter of the query that is true or false, false when absent.
func truth(q url.Values, name string) (bool, error) {
	v := q.Get(name)
	if v == "" {
		return false, nil
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, invalid("the parameter %s must be true or false, not %q", name, v)
	}
	return b, nil
}

// bearer returns the token of a request, or "".
func bearer(h http.Header) string {
	if t := h["X-Vault-Token"]; t != nil {
		return t[0]
	}
	if a := h["Authorization"]; a != nil && len(a[0]) > 7 && strings.EqualFold(a[0][:7], "bearer ") {
		return strings.TrimSpace(a[0][7:])
	}
	return ""
}

// source is the address that the request comes from; the zero Addr where a client
// has none, as on a unix socket.
func (r *request) source() netip.Addr {
	from, err := netip.ParseAddrPort(r.http.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return from.Addr().Unmap().WithZone("")
}

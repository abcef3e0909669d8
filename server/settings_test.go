package server_test

import (
	"fmt"
	"strings"
	"testing"
)

// A JWT role with fields of the login in a browser is not one for bearers of JWTs.
func TestAJWTRoleWithOIDCOnlyFieldsIsRefused(t *testing.T) {
	f := fresh(t)
	f.Must(t, 204, "POST", "sys/auth/jwt", `{"type":"jwt"}`)
	const role = `{"user_claim":"sub","bound_audiences":"keep"%s}`
	for _, field := range []string{`"allowed_redirect_uris":["https://a/cb"]`, `"oidc_scopes":"profile"`, `"verbose_oidc_logging":true`, `"max_age":60`, `"callback_mode":"client"`} {
		for _, kind := range []string{"", `,"role_type":"jwt"`, `,"role_type":"oidc"`} {
			r := f.Must(t, 400, "POST", "auth/jwt/role/ci", fmt.Sprintf(role, kind+","+field))
			if name := strings.Trim(strings.SplitN(field, ":", 2)[0], `"`); !strings.Contains(r.Errors(), name) {
				t.Error(r.Text)
			}
			f.Must(t, 404, "GET", "auth/jwt/role/ci", "")
		}
	}
	// What Terraform sends of them where they are not set says nothing.
	f.Must(t, 204, "POST", "auth/jwt/role/ci", fmt.Sprintf(role, `,"allowed_redirect_uris":[],"verbose_oidc_logging":false,"max_age":0,"oidc_scopes":null,"name":"CI"`))
}

// What decides who gets in, or what is kept, is done or refused.
func TestUnknownSecuritySettingsAreNotDropped(t *testing.T) {
	f := fresh(t)
	for _, method := range []string{"userpass", "approle", "jwt", "cert", "peer"} {
		f.Must(t, 204, "POST", "sys/auth/"+method, `{"type":"`+method+`"}`)
	}
	f.Must(t, 204, "POST", "auth/approle/role/web", `{}`)
	f.Must(t, 204, "POST", "auth/userpass/users/ann", `{"password":"pw"}`)
	for request, body := range map[string]string{
		"sys/mounts/kv local":                           `{"type":"kv","local":true}`,
		"sys/mounts/kv token_type":                      `{"type":"kv","config":{"token_type":"batch"}}`,
		"sys/mounts/kv user_lockout_config":             `{"type":"kv","config":{"user_lockout_config":{"lockout_disable":true}}}`,
		"sys/mounts/kv external_entropy_access":         `{"type":"kv","external_entropy_access":true}`,
		"sys/mounts/kv allowed_managed_keys":            `{"type":"kv","config":{"allowed_managed_keys":["k"]}}`,
		"sys/mounts/kv delegated_auth_accessors":        `{"type":"kv","config":{"delegated_auth_accessors":["k"]}}`,
		"sys/mounts/secret/tune token_type":             `{"token_type":"service"}`,
		"sys/mounts/secret/tune user_lockout_config":    `{"user_lockout_config":{"lockout_threshold":"5"}}`,
		"sys/auth/up local":                             `{"type":"userpass","local":true}`,
		"sys/auth/up user_lockout_config":               `{"type":"userpass","config":{"user_lockout_config":{"lockout_threshold":5}}}`,
		"sys/auth/up plugin_version":                    `{"type":"userpass","config":{"plugin_version":"v1.0.0"}}`,
		"sys/auth/userpass/tune user_lockout_config":    `{"user_lockout_config":{"lockout_duration":"15m"}}`,
		"auth/userpass/users/bob token_polices":         `{"password":"pw","token_polices":"a"}`,
		"auth/userpass/users/bob token_bound_cidr":      `{"password":"pw","token_bound_cidr":"10.0.0.0/8"}`,
		"auth/userpass/users/ann/password cidrs":        `{"password":"pw","cidrs":"10.0.0.0/8"}`,
		"auth/userpass/users/ann/policies bound_cidrs":  `{"policies":"a","bound_cidrs":"10.0.0.0/8"}`,
		"auth/approle/role/web alias_metadata":          `{"alias_metadata":{"a":"b"}}`,
		"auth/approle/role/web role_name":               `{"role_name":"other"}`,
		"auth/approle/role/web/secret-id cidrs":         `{"cidrs":"10.0.0.0/8"}`,
		"auth/approle/role/web/policies token_num_uses": `{"policies":"a","token_num_uses":1}`,
		"auth/jwt/role/ci bound_subjects":               `{"user_claim":"sub","bound_audiences":"a","bound_subjects":"b"}`,
		"auth/jwt/config jwks_pairs":                    `{"jwks_url":"https://127.0.0.1:1","jwks_pairs":[{"jwks_url":"x"}]}`,
		"auth/cert/certs/web ocsp_fail_open":            `{"certificate":"x","ocsp_fail_open":true}`,
		"auth/cert/config ocsp_cache_size":              `{"ocsp_cache_size":5}`,
		"auth/cert/crls/a delta":                        `{"crl":"x","delta":true}`,
		"auth/peer/role/web bound_pids":                 `{"bound_uids":[1],"bound_pids":[2]}`,
		"auth/token/create token_policies":              `{"token_policies":["a"]}`,
		"auth/token/create-orphan token_bound_cidrs":    `{"token_bound_cidrs":["10.0.0.0/8"]}`,
		"auth/token/roles/ci allowed_polices":           `{"allowed_polices":["a"]}`,
		"sys/policies/acl/p expiration":                 `{"policy":"path \"a\" {}","expiration":"2030-01-01"}`,
		"sys/rotate/config max_age":                     `{"max_age":"24h"}`,
		"sys/audit/x local":                             `{"type":"file","local":true}`,
		"secret/config max_version":                     `{"max_version":3}`,
		"secret/metadata/a delete_after":                `{"delete_after":"1h"}`,
	} {
		path, field, _ := strings.Cut(request, " ")
		if r := f.Call(t, "POST", path, body); r.Status != 400 || !strings.Contains(r.Errors(), field) || strings.Contains(r.Errors(), "parse") {
			t.Errorf("%s %s: %d %s", path, body, r.Status, r.Text)
		}
	}
	for path, body := range map[string]string{ // what clients send where nothing is set
		"sys/mounts/kv": `{"type":"kv-v2","local":false,"external_entropy_access":false,"config":{"plugin_version":"","user_lockout_config":{"lockout_disable":false},"token_type":"","options":null,"default_lease_ttl":"0s"}}`,
		"sys/auth/up":   `{"type":"userpass","local":false,"config":{"token_type":"","allowed_managed_keys":[]}}`,
		// And by clients that fill in the path from their parameters.
		"sys/mounts/team/kv":        `{"type":"kv-v2","mount_point":"team/kv"}`,
		"auth/approle/role/web":     `{"mount_point":"approle","role_name":"Web"}`,
		"auth/userpass/users/ann":   `{"username":"ann","mount_point":"/userpass/","password":"pw"}`,
		"sys/policies/acl/listener": `{"name":"listener","policy":"path \"a\" {}"}`,
	} {
		f.Must(t, 204, "POST", path, body)
	}
}

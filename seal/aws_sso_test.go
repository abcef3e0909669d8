package seal

import (
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// ssoServer is both services of AWS SSO: the portal gives the role's credentials, those that answer says, to who shows
// the right token, and OIDC gives a new token to who shows the refresh token, which is good for once.
type ssoServer struct {
	*httptest.Server
	answer func() (id string, lives time.Duration)

	mu             sync.Mutex
	token, refresh string
	lives          time.Duration // of the tokens that OIDC gives
	portal, oidc   string        // the code of an error that is answered instead
	asked          []string      // the operations
}

const (
	ssoToken   = "access-token-of-sso"
	ssoRefresh = "refresh-token-of-sso"
	ssoClient  = "client-secret-of-sso"
)

// newSSO stands for both services in the environment.
func newSSO(t *testing.T, answer func() (string, time.Duration)) *ssoServer {
	s := &ssoServer{answer: answer, token: ssoToken, refresh: ssoRefresh, lives: time.Hour}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	t.Setenv("AWS_ENDPOINT_URL_SSO", s.URL)
	t.Setenv("AWS_ENDPOINT_URL_SSO_OIDC", s.URL)
	return s
}

func (s *ssoServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in struct{ ClientID, ClientSecret, GrantType, RefreshToken string }
	if body, _ := io.ReadAll(r.Body); len(body) > 0 {
		json.Unmarshal(body, &in) // what is not there is not right
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fail := func(status int, code string) {
		w.Header().Set("X-Amzn-Errortype", code)
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"message":"no","error":"no"}`)
	}
	switch path := r.URL.Path; {
	case path == "/federation/credentials":
		s.asked = append(s.asked, strings.TrimSpace("GetRoleCredentials "+r.FormValue("role_name")+" "+r.FormValue("account_id")))
		switch {
		case s.portal != "":
			fail(http.StatusForbidden, s.portal)
		case r.Header.Get("X-Amz-Sso_bearer_token") != s.token:
			fail(http.StatusUnauthorized, "UnauthorizedException")
		default:
			id, lives := s.answer()
			fmt.Fprintf(w, `{"roleCredentials":{"accessKeyId":%q,"secretAccessKey":"s","sessionToken":"t","expiration":%d}}`, id, time.Now().Add(lives).UnixMilli())
		}
	case path == "/token":
		s.asked = append(s.asked, "CreateToken "+in.GrantType)
		switch {
		case s.oidc != "":
			fail(http.StatusUnauthorized, s.oidc)
		case in.RefreshToken != s.refresh || in.ClientID != "client" || in.ClientSecret != ssoClient:
			fail(http.StatusBadRequest, "InvalidGrantException")
		default:
			s.token, s.refresh = s.token+"+", s.refresh+"+"
			fmt.Fprintf(w, `{"accessToken":%q,"refreshToken":%q,"expiresIn":%d,"tokenType":"Bearer"}`, s.token, s.refresh, int(s.lives.Seconds()))
		}
	default:
		fail(http.StatusNotFound, "UnknownOperationException")
	}
}

// set changes what is answered.
func (s *ssoServer) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// requests returns the operations asked for since the last time.
func (s *ssoServer) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.asked
	s.asked = nil
	return a
}

const (
	ssoLegacy  = "sso_start_url = https://start.example\nsso_region = eu-west-1\nsso_account_id = 111122223333\nsso_role_name = keeper\n"
	ssoSession = "sso_session = corp\nsso_account_id = 111122223333\nsso_role_name = keeper\n"
	ssoCorp    = "[sso-session corp]\nsso_region = eu-west-1\nsso_start_url = https://start.example\n"
)

// ssoFile is where the CLI keeps the token of a session, or of a start URL.
func ssoFile(of string) string {
	sum := sha1.Sum([]byte(of))
	return filepath.Join(os.Getenv("HOME"), ".aws", "sso", "cache", hex.EncodeToString(sum[:])+".json")
}

// ssoLogin is what aws sso login leaves behind. Without a refresh token it is as that of a legacy profile.
func ssoLogin(t *testing.T, of, token, refresh string, lives time.Duration) {
	t.Helper()
	file := map[string]string{"startUrl": "https://start.example", "accessToken": token, "expiresAt": time.Now().Add(lives).UTC().Format(time.RFC3339)}
	if refresh != "" {
		file["refreshToken"], file["clientId"], file["clientSecret"] = refresh, "client", ssoClient
	}
	text, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(ssoFile(of)), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ssoFile(of), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestAWSSSO logs in with both kinds of profiles, directly and for a role, and lets everything end that can.
func TestAWSSSO(t *testing.T) {
	for name, c := range map[string]struct {
		profile string
		of      string // what the token's file is named after
		params  []string
	}{
		"legacy":               {ssoLegacy, "https://start.example", []string{"shared_creds_profile", "corp-keeper"}},
		"session":              {ssoSession, "corp", []string{"shared_creds_profile", "corp-keeper"}},
		"legacy, its role":     {ssoLegacy, "https://start.example", []string{"shared_creds_profile", "role"}},
		"session, its role":    {ssoSession, "corp", []string{"shared_creds_profile", "role"}},
		"session, block's own": {ssoSession, "corp", []string{"shared_creds_profile", "corp-keeper", "role_arn", "arn:aws:iam::111122223333:role/keep"}},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKMS(t)
			sts := newSTS(t, "")
			sts.expire = time.Hour
			t.Setenv("AWS_ENDPOINT_URL_STS", sts.URL)
			sso := newSSO(t, func() (string, time.Duration) { return "ASIAsso", time.Hour })
			t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "config"))
			if err := os.WriteFile(os.Getenv("AWS_CONFIG_FILE"), []byte("[profile corp-keeper]\n"+c.profile+ssoCorp+
				"[profile role]\nrole_arn = arn:aws:iam::111122223333:role/keep\nsource_profile = corp-keeper\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			fresh := func() *Seal {
				return make1(t, block("awskms", "aws", append([]string{"kms_key_id", keyA, "endpoint", k.URL}, c.params...)...))
			}
			ended := func(s *Seal, why string) {
				t.Helper()
				_, _, err := s.Wrap(soon(t), secret, aad)
				hasClass(t, err, CredentialsExpired, "aws sso login --profile corp-keeper", why)
				for _, hidden := range []string{ssoToken, ssoRefresh, ssoClient} {
					if strings.Contains(err.Error(), hidden) {
						t.Errorf("the error shows %s: %v", hidden, err)
					}
				}
			}
			const credentials = "GetRoleCredentials keeper 111122223333"
			asks := func(want ...string) {
				t.Helper()
				if got := sso.requests(); !slices.Equal(got, want) {
					t.Errorf("SSO was asked %q, want %q", got, want)
				}
			}

			// Nobody has logged in, or the login has ended. After the next one the same seal works.
			s := fresh()
			ended(s, ssoFile(c.of))
			ssoLogin(t, c.of, ssoToken, "", -time.Minute)
			ended(s, "expired")
			asks()
			ssoLogin(t, c.of, ssoToken, "", time.Hour)
			roundTrip(t, s)
			asks(credentials)
			if !strings.Contains(name, "its role") && !strings.Contains(name, "own") {
				if creds, _, err := s.service.(*awsKMS).login.get(soon(t)); err != nil || creds.AccessKeyID != "ASIAsso" || sourceOf(creds) != "AWS SSO" {
					t.Errorf("used %+v, %v", creds.Source, err)
				}
			} else if sts.last != "AssumeRole keep ASIAsso" {
				t.Errorf("STS was asked %q", sts.last)
			}

			// The administrator ends the session, or takes the role away.
			for code, want := range map[string]Class{"UnauthorizedException": CredentialsExpired, "ForbiddenException": AuthDenied,
				"ResourceNotFoundException": AuthDenied, "TooManyRequestsException": Throttled} {
				sso.set(func() { sso.portal = code })
				_, _, err := fresh().Wrap(soon(t), secret, aad)
				hasClass(t, err, want, code)
				if (want == CredentialsExpired) != strings.Contains(err.Error(), "aws sso login --profile corp-keeper") {
					t.Errorf("%s: %v", code, err)
				}
			}
			sso.set(func() { sso.portal = "" })
			sso.requests()

			if c.profile == ssoSession {
				// A token that has ended is exchanged, and so is the one that comes of it.
				sso.set(func() { sso.lives = -time.Minute })
				ssoLogin(t, c.of, ssoToken, ssoRefresh, -time.Minute)
				roundTrip(t, fresh())
				asks("CreateToken refresh_token", credentials)
				sso.set(func() { sso.lives = time.Hour })
				roundTrip(t, fresh())
				asks("CreateToken refresh_token", credentials)
				roundTrip(t, fresh())
				asks(credentials)
				info, err := os.Stat(ssoFile(c.of))
				if err != nil || info.Mode() != 0o600 {
					t.Errorf("the token's file: %v, %v", info, err)
				}

				ssoLogin(t, c.of, ssoToken, ssoRefresh, -time.Minute) // was used before
				ended(fresh(), "InvalidGrantException")
				for _, code := range []string{"InvalidClientException", "UnauthorizedClientException", "ExpiredTokenException"} {
					sso.set(func() { sso.oidc = code })
					ended(fresh(), code)
				}
			}
			ssoLogin(t, c.of, ssoToken, "", time.Hour)
			sso.Close()
			_, _, err := fresh().Wrap(soon(t), secret, aad)
			hasClass(t, err, Unreachable, "connection refused")
		})
	}
}

package seal

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
	"github.com/hashicorp/go-kms-wrapping/wrappers/awskms/v2"
	"google.golang.org/protobuf/proto"

	"github.com/sealkeep/sealkeep/seal/sealtest"
)

// TestMoto runs awskms against an AWS that other people wrote.
func TestMoto(t *testing.T) {
	clean(t)
	m := sealtest.Moto(t)
	own := sealtest.Own
	m.Call(own, "CreateAlias", map[string]string{"AliasName": "alias/keep", "TargetKeyId": m.KeyID}, nil)
	aliasARN := strings.Replace(m.KeyARN, "key/"+m.KeyID, "alias/keep", 1)
	names := []string{m.KeyID, m.KeyARN, "alias/keep", aliasARN}

	// hcl is a block with whatever is in lines.
	hcl := func(lines ...string) string { return "seal \"awskms\" {\n" + strings.Join(lines, "\n") + "\n}" }
	static := []string{`access_key = "` + own.AccessKey + `"`, `secret_key = "` + own.SecretKey + `"`}
	home := []string{`endpoint = "` + m.URL + `"`, `region = "` + sealtest.MotoRegion + `"`}

	for _, name := range names {
		t.Run("file "+name, func(t *testing.T) {
			clean(t)
			_, id := roundTrip(t, load(t, hcl(slices.Concat(home, static, []string{`kms_key_id = "` + name + `"`})...)))
			if id != m.KeyARN {
				t.Errorf("key ID is %s", id)
			}
		})
		for _, variable := range []string{"VAULT_AWSKMS_SEAL_KEY_ID", "AWSKMS_WRAPPER_KEY_ID"} {
			t.Run(variable+" "+name, func(t *testing.T) {
				clean(t)
				for k, v := range map[string]string{"VAULT_SEAL_TYPE": "awskms", variable: name, "AWS_KMS_ENDPOINT": m.URL, "AWS_REGION": sealtest.MotoRegion,
					"AWS_ACCESS_KEY_ID": own.AccessKey, "AWS_SECRET_ACCESS_KEY": own.SecretKey, "AWS_SESSION_TOKEN": "any"} {
					t.Setenv(k, v)
				}
				if _, id := roundTrip(t, environment(t)); id != m.KeyARN {
					t.Errorf("key ID is %s", id)
				}
			})
		}
	}

	t.Run("naming and diagnosing", func(t *testing.T) {
		clean(t)
		s := load(t, hcl(slices.Concat(home, static, []string{`kms_key_id = "alias/keep"`})...))
		if id := agree(t, s); id != m.KeyARN {
			t.Errorf("key ID is %s", id)
		}
		if got := brief(steps(t, s)); got != "credentials region connection clock kms:DescribeKey kms:Encrypt kms:Decrypt" {
			t.Errorf("got %s", got)
		}
	})

	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	credentials := write("credentials", "[default]\naws_access_key_id = x\naws_secret_access_key = x\n[keep]\naws_access_key_id = "+own.AccessKey+"\naws_secret_access_key = "+own.SecretKey+"\n")
	configFile := write("config", "[profile keep]\nregion = "+sealtest.MotoRegion+"\n[profile assumed]\nrole_arn = arn:aws:iam::123456789012:role/keep\nsource_profile = keep\nregion = "+sealtest.MotoRegion+"\n")
	token := write("token", "a.web.token")
	key := `kms_key_id = "` + m.KeyID + `"`
	endpoint := `endpoint = "` + m.URL + `"`
	for name, c := range map[string]struct {
		env   map[string]string
		lines []string
	}{
		"session token by file":   {nil, slices.Concat(home, static, []string{key, `session_token = "any"`})},
		"secrets in files":        {nil, slices.Concat(home, []string{key, `access_key = "file://` + write("ak", own.AccessKey+"\n") + `"`, `secret_key = file("` + write("sk", own.SecretKey+"\n") + `")`})},
		"profile file by file":    {nil, []string{key, endpoint, `shared_creds_filename = "` + credentials + `"`, `shared_creds_profile = "keep"`, `region = "` + sealtest.MotoRegion + `"`}},
		"profile by environment":  {map[string]string{"AWS_PROFILE": "keep", "AWS_SHARED_CREDENTIALS_FILE": credentials, "AWS_CONFIG_FILE": configFile}, []string{key, endpoint}},
		"profile with a role":     {map[string]string{"AWS_PROFILE": "assumed", "AWS_SHARED_CREDENTIALS_FILE": credentials, "AWS_CONFIG_FILE": configFile}, []string{key, endpoint}},
		"other region variable":   {map[string]string{"AWS_DEFAULT_REGION": sealtest.MotoRegion}, append([]string{key, endpoint}, static...)},
		"region of the ARN":       {nil, append([]string{`kms_key_id = "` + m.KeyARN + `"`, endpoint}, static...)},
		"role by file":            {nil, slices.Concat(home, static, []string{key, `role_arn = "arn:aws:iam::123456789012:role/keep"`, `role_session_name = "test"`})},
		"web identity by file":    {nil, slices.Concat(home, []string{key, `role_arn = "arn:aws:iam::123456789012:role/keep"`, `web_identity_token_file = "` + token + `"`})},
		"web identity other half": {map[string]string{"AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/keep"}, slices.Concat(home, []string{key, `web_identity_token_file = "` + token + `"`})},
		"web identity half":       {map[string]string{"AWS_WEB_IDENTITY_TOKEN_FILE": token}, slices.Concat(home, []string{key, `role_arn = "arn:aws:iam::123456789012:role/keep"`})},
		"web identity by environ": {map[string]string{"AWS_WEB_IDENTITY_TOKEN_FILE": token, "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/keep", "AWS_ROLE_SESSION_NAME": "test"}, slices.Concat(home, []string{key})},
	} {
		t.Run(name, func(t *testing.T) {
			clean(t)
			t.Setenv("AWS_ENDPOINT_URL_STS", m.URL)
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			if _, id := roundTrip(t, load(t, hcl(c.lines...))); id != m.KeyARN {
				t.Errorf("key ID is %s", id)
			}
		})
	}

	ours := func(key string) *Seal {
		return make1(t, block("awskms", "aws", "kms_key_id", key, "endpoint", m.URL, "region", sealtest.MotoRegion, "access_key", own.AccessKey, "secret_key", own.SecretKey))
	}

	t.Run("library", func(t *testing.T) {
		clean(t)
		w := awskms.NewWrapper()
		if _, err := w.SetConfig(t.Context(), wrapping.WithConfigMap(map[string]string{"kms_key_id": m.KeyID, "endpoint": m.URL, "region": sealtest.MotoRegion,
			"access_key": own.AccessKey, "secret_key": own.SecretKey})); err != nil {
			t.Fatal(err)
		}
		info, err := w.Encrypt(t.Context(), secret, wrapping.WithAad(aad))
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := encode(info)
		if err != nil {
			t.Fatal(err)
		}
		opens(t, ours(m.KeyID), theirs)
		blob, _ := roundTrip(t, ours("alias/keep"))
		info = new(wrapping.BlobInfo)
		if err := proto.Unmarshal(blob[1:], info); err != nil {
			t.Fatal(err)
		}
		if got, err := w.Decrypt(context.Background(), info, wrapping.WithAad(aad)); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("the library opens ours: %q, %v", got, err)
		}
	})

	t.Run("second account", func(t *testing.T) {
		clean(t)
		theirs := m.AssumeRole("arn:aws:iam::999999999999:role/attacker")
		id, arn := m.CreateKey(theirs)
		if !strings.Contains(arn, ":999999999999:") {
			t.Fatalf("the second account's key is %s", arn)
		}
		m.Call(theirs, "CreateAlias", map[string]string{"AliasName": "alias/keep", "TargetKeyId": id}, nil)
		attacker := make1(t, block("awskms", "aws", "kms_key_id", "alias/keep", "endpoint", m.URL, "region", sealtest.MotoRegion,
			"access_key", theirs.AccessKey, "secret_key", theirs.SecretKey, "session_token", theirs.SessionToken))
		evil, by := roundTrip(t, attacker)
		if by != arn {
			t.Errorf("key ID is %s", by)
		}
		_, err := ours("alias/keep").Unwrap(soon(t), evil, aad)
		hasClass(t, err, BlobMismatch, arn)
		// The attacker's login does not make his key the configured one either.
		stolen := make1(t, block("awskms", "aws", "kms_key_id", aliasARN, "endpoint", m.URL,
			"access_key", theirs.AccessKey, "secret_key", theirs.SecretKey, "session_token", theirs.SessionToken))
		if _, err = stolen.Unwrap(soon(t), evil, aad); err == nil {
			t.Error("the key of the second account was taken for the first one's")
		}
	})

	t.Run("alias moved", func(t *testing.T) {
		clean(t)
		s := ours("alias/keep")
		blob, _ := roundTrip(t, s)
		id, arn := m.CreateKey(own)
		m.Call(own, "UpdateAlias", map[string]string{"AliasName": "alias/keep", "TargetKeyId": id}, nil)
		opens(t, s, blob)
		if _, by := roundTrip(t, s); by != arn {
			t.Errorf("key ID is %s", by)
		}
	})

	t.Run("states", func(t *testing.T) {
		clean(t)
		id, arn := m.CreateKey(own)
		s := ours(id)
		blob, _ := roundTrip(t, s)
		m.Call(own, "DisableKey", map[string]string{"KeyId": id}, nil)
		_, err := s.Unwrap(soon(t), blob, aad)
		hasClass(t, err, KeyDisabled, arn, "enable")
		m.Call(own, "EnableKey", map[string]string{"KeyId": id}, nil)
		opens(t, s, blob)
		m.Call(own, "ScheduleKeyDeletion", map[string]any{"KeyId": id, "PendingWindowInDays": 7}, nil)
		_, err = s.Unwrap(soon(t), blob, aad)
		hasClass(t, err, KeyPendingDeletion, arn, "on 20")
		_, err = ours("00000000-0000-4000-8000-000000000000").Unwrap(soon(t), blob, aad)
		hasClass(t, err, KeyNotFound, "kms_key_id")
	})
}

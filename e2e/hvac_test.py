"""Drives a fresh keep at VAULT_ADDR with hvac; ends with an error at the first difference."""

import base64
import datetime
import hashlib
import hmac
import json
import os
import subprocess
import sys
import tempfile

import hvac
from hvac import exceptions


def check(what, got, want):
    if got != want:
        sys.exit("DIFFERENT: %s: got %r, want %r" % (what, got, want))
    print("ok: " + what)


def refused(what, kind, words, call):
    """call must raise exactly this kind of error, with these words in it."""
    try:
        got = call()
    except exceptions.VaultError as e:
        check(what, (type(e), words in str(e)), (kind, True))
    else:
        sys.exit("DIFFERENT: %s: no error but %r" % (what, got))


def time(text):
    return datetime.datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")


print("hvac %s" % getattr(hvac, "__version__", "of Debian"))
c = hvac.Client(url=os.environ["VAULT_ADDR"])
sys_, kv = c.sys, c.secrets.kv.v2

# Before init.
check("not initialized", sys_.is_initialized(), False)
check("sealed before init", sys_.is_sealed(), True)
check("health before init", sys_.read_health_status().status_code, 501)
check("health by GET before init", sys_.read_health_status(method="GET").status_code, 501)
refused("init by PGP", exceptions.InvalidRequest, "PGP", lambda: sys_.initialize(1, 1, pgp_keys=["x"]))
refused("a sealed keep gives nothing", exceptions.VaultDown, "Vault is sealed", lambda: kv.read_secret_version("a"))

# Init, and what it tells.
first = sys_.initialize(secret_shares=5, secret_threshold=3)
check("no unseal keys", first["keys"], [])
c.token = first["root_token"]
check("a root token", c.token.startswith("hvs."), True)
check("initialized", sys_.is_initialized(), True)
check("open after init", sys_.is_sealed(), False)
refused("init twice", exceptions.InvalidRequest, "already initialized", lambda: sys_.initialize(1, 1))
check("the token is good", c.is_authenticated(), True)
check("the token is root", c.lookup_token()["data"]["policies"], ["root"])
refused("a wrong token", exceptions.Forbidden, "permission denied", lambda: hvac.Client(url=c.url, token="hvs.no").sys.list_mounted_secrets_engines())
check("no token", hvac.Client(url=c.url, token="").is_authenticated(), False)

# Status, health and leader.
status = sys_.read_seal_status()
check("seal type", status["type"], "static")
check("storage type", status["storage_type"], "bbolt")
check("seal status", [status[k] for k in ("initialized", "sealed", "t", "n", "progress", "migration", "recovery_seal")], [True, False, 3, 5, 0, False, True])
check("health", sys_.read_health_status().status_code, 200)
health = sys_.read_health_status(method="GET")
check("health by GET", [health[k] for k in ("initialized", "sealed", "standby")], [True, False, False])
check("health with a code", sys_.read_health_status(method="GET", active_code=299).status_code, 299)
check("leader", sys_.read_leader_status()["ha_enabled"], False)

# Mounts.
mounts = sys_.list_mounted_secrets_engines()["data"]
check("mounts at first", sorted(mounts), ["cubbyhole/", "secret/", "state/", "sys/"])
check("secret/ is KV version 2", (mounts["secret/"]["type"], mounts["secret/"]["options"]["version"]), ("kv", "2"))
sys_.enable_secrets_engine("kv", path="team/a", description="of team a", options={"version": "2"}, config={"max_lease_ttl": "48h"})
check("its option", sys_.retrieve_mount_option("team/a", "version"), "2")
check("its description", sys_.list_mounted_secrets_engines()["data"]["team/a/"]["description"], "of team a")
refused("the path is taken", exceptions.InvalidRequest, "path is already in use at team/a/", lambda: sys_.enable_secrets_engine("kv", path="team/a"))
refused("an unknown engine", exceptions.InvalidRequest, "unknown backend type", lambda: sys_.enable_secrets_engine("nosuch"))
check("how it is tuned", sys_.read_mount_configuration("team/a")["data"]["max_lease_ttl"], 48 * 3600)
sys_.tune_mount_configuration("team/a", default_lease_ttl="1h", max_lease_ttl="24h", description="tuned")
tuned = sys_.read_mount_configuration("team/a")["data"]
check("tuned", [tuned[k] for k in ("default_lease_ttl", "max_lease_ttl", "description")], [3600, 24 * 3600, "tuned"])

# The barrier's key.
check("term", sys_.get_encryption_key_status()["data"]["term"], 1)
check("rotate", sys_.rotate_encryption_key().status_code, 204)
check("the next term", sys_.get_encryption_key_status()["data"]["term"], 2)

# KV: create, read, check-and-set. In both mounts, one after the other.
for at in ("secret", "team/a"):
    def on(call, *args, **kw):
        return call(*args, mount_point=at, **kw)

    def refuses(what, kind, words, call, *args, **kw):
        refused(at + ": " + what, kind, words, lambda: on(call, *args, **kw))

    def is_(what, got, want):
        check(at + ": " + what, got, want)

    one = {"user": "u", "password": "s3cret one", "n": 12345678901234567890, "deep": {"x": [1, None, "ü"]}}
    refuses("an absent secret", exceptions.InvalidPath, "", kv.read_secret_version, "app/db")
    meta = on(kv.create_or_update_secret, "app/db", one)["data"]
    is_("created", [meta[k] for k in ("version", "deletion_time", "destroyed", "custom_metadata")], [1, "", False, None])
    is_("created now", abs(time(meta["created_time"]) - datetime.datetime.utcnow()) < datetime.timedelta(minutes=5), True)
    got = on(kv.read_secret_version, "app/db")["data"]
    is_("read", got, {"data": one, "metadata": meta})
    is_("read_secret", on(kv.read_secret, "app/db")["data"], got)
    refuses("cas 0 on a secret that is there", exceptions.InvalidRequest, "check-and-set parameter did not match the current version",
            kv.create_or_update_secret, "app/db", {}, cas=0)
    is_("cas 1", on(kv.create_or_update_secret, "app/db", {"user": "v", "password": "s3cret two"}, cas=1)["data"]["version"], 2)
    is_("cas 0 on a new one", on(kv.create_or_update_secret, "app/new", {}, cas=0)["data"]["version"], 1)
    is_("version 1", on(kv.read_secret_version, "app/db", version=1)["data"]["data"], one)
    is_("version 2", on(kv.read_secret_version, "app/db", version=2)["data"]["metadata"]["version"], 2)
    refuses("version 9", exceptions.InvalidPath, "", kv.read_secret_version, "app/db", version=9)

    # Patch: read, change, write with cas.
    is_("patch", on(kv.patch, "app/db", {"host": "h"})["data"]["version"], 3)
    is_("patched", on(kv.read_secret_version, "app/db")["data"]["data"], {"user": "v", "password": "s3cret two", "host": "h"})
    refuses("patch of nothing", exceptions.InvalidPath, "patch only works on existing data", kv.patch, "none", {"a": "b"})

    # List.
    is_("list of the mount", on(kv.list_secrets, "")["data"]["keys"], ["app/"])
    is_("list of a folder", on(kv.list_secrets, "app")["data"]["keys"], ["db", "new"])
    is_("list of a folder with a slash", on(kv.list_secrets, "app/")["data"]["keys"], ["db", "new"])
    refuses("list of nothing", exceptions.InvalidPath, "", kv.list_secrets, "none")

    # Delete, undelete, destroy.
    is_("delete the newest", on(kv.delete_latest_version_of_secret, "app/db").status_code, 204)
    refuses("it is gone", exceptions.InvalidPath, "", kv.read_secret_version, "app/db")
    is_("delete versions", on(kv.delete_secret_versions, "app/db", [1, 2]).status_code, 204)
    refuses("so is version 1", exceptions.InvalidPath, "", kv.read_secret_version, "app/db", version=1)
    versions = on(kv.read_secret_metadata, "app/db")["data"]["versions"]
    is_("all have a deletion time", [time(versions[n]["deletion_time"]) >= time(versions[n]["created_time"]) for n in "123"], [True] * 3)
    is_("undelete", on(kv.undelete_secret_versions, "app/db", [1, 3]).status_code, 204)
    is_("version 1 is back", on(kv.read_secret_version, "app/db", version=1)["data"]["data"], one)
    is_("the newest is back", on(kv.read_secret_version, "app/db")["data"]["data"]["host"], "h")
    is_("destroy", on(kv.destroy_secret_versions, "app/db", [1]).status_code, 204)
    is_("undelete what is destroyed", on(kv.undelete_secret_versions, "app/db", [1, 2]).status_code, 204)
    refuses("version 1 stays away", exceptions.InvalidPath, "", kv.read_secret_version, "app/db", version=1)
    versions = on(kv.read_secret_metadata, "app/db")["data"]["versions"]
    is_("what is destroyed", [versions[n]["destroyed"] for n in "123"], [True, False, False])

    # Metadata.
    is_("set metadata", on(kv.update_metadata, "app/db", max_versions=2, cas_required=True, delete_version_after="3h25m19s").status_code, 204)
    meta = on(kv.read_secret_metadata, "app/db")["data"]
    is_("metadata", [meta[k] for k in ("max_versions", "cas_required", "delete_version_after", "current_version", "oldest_version", "custom_metadata")],
        [2, True, "3h25m19s", 3, 0, None])
    refuses("cas is required", exceptions.InvalidRequest, "check-and-set parameter required for this call", kv.create_or_update_secret, "app/db", {})
    four = on(kv.create_or_update_secret, "app/db", {"password": "s3cret four"}, cas=3)["data"]
    is_("it will expire", time(four["deletion_time"]) - time(four["created_time"]), datetime.timedelta(hours=3, minutes=25, seconds=19))
    meta = on(kv.read_secret_metadata, "app/db")["data"]
    is_("older versions are gone", (sorted(meta["versions"]), meta["oldest_version"]), (["3", "4"], 3))

    # The mount's settings.
    is_("configuration", on(kv.read_configuration)["data"], {"max_versions": 0, "cas_required": False, "metadata_cas_required": False, "delete_version_after": "0s"})
    is_("configure", on(kv.configure, max_versions=7, cas_required=True, delete_version_after="90m").status_code, 204)
    is_("configured", on(kv.read_configuration)["data"], {"max_versions": 7, "cas_required": True, "metadata_cas_required": False, "delete_version_after": "1h30m0s"})
    refuses("cas is required everywhere", exceptions.InvalidRequest, "check-and-set parameter required", kv.create_or_update_secret, "app/new", {})
    over = on(kv.update_metadata, "app/new", cas_required=False)
    is_("the mount counts more", over["warnings"], ['"cas_required" set to false, but is mandated by backend config. This value will be ignored.'])
    is_("configure back", on(kv.configure, max_versions=0, cas_required=False, delete_version_after="0s").status_code, 204)

    is_("delete everything", on(kv.delete_metadata_and_all_versions, "app/db").status_code, 204)
    refuses("nothing is left", exceptions.InvalidPath, "", kv.read_secret_metadata, "app/db")
    is_("its neighbour is", on(kv.list_secrets, "app")["data"]["keys"], ["new"])

# A name that must be escaped.
odd = "ä b/c?d#e%2f"
kv.create_or_update_secret(odd, {"password": "s3cret odd"})
check("an odd name is listed", kv.list_secrets("ä b")["data"]["keys"], ["c?d#e%2f"])
check("an odd name is read", kv.read_secret_version(odd)["data"]["data"], {"password": "s3cret odd"})

# Tokens.
tok = c.auth.token
made = tok.create(policies=["default"], ttl="1h", display_name="ci", meta={"k": "v"})["auth"]
check("a token", [made[k] for k in ("policies", "lease_duration", "renewable", "orphan", "metadata")], [["default"], 3600, True, False, {"k": "v"}])
seen = tok.lookup(made["client_token"])["data"]
check("looked up", [seen[k] for k in ("id", "accessor", "display_name", "path", "creation_ttl")],
      [made["client_token"], made["accessor"], "token-ci", "auth/token/create", 3600])
check("by its accessor", tok.lookup_accessor(made["accessor"])["data"]["id"], "")
check("listed", made["accessor"] in tok.list_accessors()["data"]["keys"], True)
check("renewed", tok.renew(made["client_token"], increment="30m")["auth"]["lease_duration"], 1800)
check("renewed by its accessor", tok.renew_accessor(made["accessor"], increment=600)["auth"]["lease_duration"], 600)
own = hvac.Client(url=c.url, token=made["client_token"])
check("who it is", own.auth.token.lookup_self()["data"]["accessor"], made["accessor"])
check("renewed by itself", own.auth.token.renew_self()["auth"]["lease_duration"], 3600)
refused("it may make none", exceptions.Forbidden, "permission denied", own.auth.token.create)
check("revoked by itself", own.auth.token.revoke_self().status_code, 204)
refused("it is gone", exceptions.Forbidden, "permission denied", own.auth.token.lookup_self)
refused("looked up no more", exceptions.Forbidden, "bad token", lambda: tok.lookup(made["client_token"]))
check("a role", tok.create_or_update_role("ci", allowed_policies="default", orphan=True).status_code, 204)
check("roles", tok.list_roles()["data"]["keys"], ["ci"])
check("what it allows", tok.read_role("ci")["data"]["allowed_policies"], ["default"])
made = tok.create(role_name="ci", num_uses=1)["auth"]
check("a token by role", [made[k] for k in ("orphan", "num_uses")], [True, 1])
own.token = made["client_token"]
check("its one use", own.auth.token.lookup_self()["data"]["role"], "ci")
refused("no other", exceptions.Forbidden, "permission denied", own.auth.token.lookup_self)
check("no role", tok.delete_role("ci").status_code, 204)
mother = tok.create(policies=["root"])["auth"]["client_token"]
child = hvac.Client(url=c.url, token=mother).auth.token.create(policies=["default"])["auth"]
check("revoke the mother", tok.revoke(mother).status_code, 204)
refused("her child is gone", exceptions.InvalidRequest, "invalid accessor", lambda: tok.lookup_accessor(child["accessor"]))
mother = tok.create(policies=["root"])["auth"]["client_token"]
child = hvac.Client(url=c.url, token=mother).auth.token.create(policies=["default"])["auth"]
check("revoke the mother alone", tok.revoke_and_orphan_children(mother).status_code, 204)
check("her child is an orphan", tok.lookup_accessor(child["accessor"])["data"]["orphan"], True)
check("revoke it by its accessor", tok.revoke_accessor(child["accessor"]).status_code, 204)
check("tidy", tok.tidy().status_code, 202)

# Wrapping and the cubbyhole.
wrapped = tok.create(policies=["default"], wrap_ttl="60s")["wrap_info"]
check("a wrapped token", [wrapped["ttl"], wrapped["creation_path"], "wrapped_accessor" in wrapped], [60, "auth/token/create", True])
made = sys_.unwrap(wrapped["token"])["auth"]
check("unwrapped by another", made["accessor"], wrapped["wrapped_accessor"])
refused("unwrapped again", exceptions.InvalidRequest, "wrapping token is not valid", lambda: sys_.unwrap(wrapped["token"]))
wrapped = c.adapter.post("/v1/sys/wrapping/wrap", json={"k": "v"}, wrap_ttl="90s")["wrap_info"]
check("wrapped data", [wrapped["ttl"], wrapped["creation_path"]], [90, "sys/wrapping/wrap"])
check("its token", c.write("sys/wrapping/lookup", token=wrapped["token"])["data"]["creation_ttl"], 90)
bearer = hvac.Client(url=c.url, token=wrapped["token"])
check("unwrapped by its own token", bearer.sys.unwrap()["data"], {"k": "v"})
check("a read that is wrapped", c.read("secret/config", wrap_ttl="1m")["wrap_info"]["ttl"], 60)
own = hvac.Client(url=c.url, token=made["client_token"])
check("into the cubbyhole", own.write("cubbyhole/a/b", k="v").status_code, 204)
check("out of it", own.read("cubbyhole/a/b")["data"], {"k": "v"})
check("its names", own.list("cubbyhole")["data"]["keys"], ["a/"])
check("nobody else's", c.read("cubbyhole/a/b"), None)

# Policies.
rules = 'path "secret/data/app/*" { capabilities = ["read"] }'
check("write a policy", sys_.create_or_update_policy("app", rules).status_code, 204)
check("read it", sys_.read_policy("app")["data"]["rules"], rules)
check("policies", sys_.list_policies()["data"]["policies"], ["app", "default", "root"])

# Login methods.
check("methods at first", sorted(sys_.list_auth_methods()["data"]), ["token/"])
check("enable one", sys_.enable_auth_method("approle", description="machines", config={"default_lease_ttl": "30m"}).status_code, 204)
refused("the path is taken", exceptions.InvalidRequest, "path is already in use at approle/", lambda: sys_.enable_auth_method("approle"))
check("its description", sys_.list_auth_methods()["data"]["approle/"]["description"], "machines")
check("tune it", sys_.tune_auth_method("approle", max_lease_ttl="24h", description="robots").status_code, 204)
tuned = sys_.read_auth_method_tuning("approle")["data"]
check("tuned", [tuned[k] for k in ("default_lease_ttl", "max_lease_ttl", "description")], [1800, 86400, "robots"])

app = c.auth.approle
refused("no roles", exceptions.InvalidPath, "", app.list_roles)
check("write a role", app.create_or_update_approle("web", token_policies=["app"], secret_id_num_uses=2, secret_id_ttl="1h", token_max_ttl="2h",
                                                   token_bound_cidrs=["127.0.0.0/8"]).status_code, 204)
check("roles", app.list_roles()["data"]["keys"], ["web"])
role = app.read_role("web")["data"]
check("a role", [role[k] for k in ("token_policies", "secret_id_num_uses", "secret_id_ttl", "token_max_ttl", "bind_secret_id", "token_type", "token_bound_cidrs")],
      [["app"], 2, 3600, 7200, True, "default", ["127.0.0.0/8"]])
check("its ID", app.update_role_id("web", "the-role").status_code, 204)
check("its ID is", app.read_role_id("web")["data"]["role_id"], "the-role")
made = app.generate_secret_id("web", metadata={"where": "here"}, cidr_list=["127.0.0.1/32"])["data"]
check("a secret ID", [made[k] for k in ("secret_id_ttl", "secret_id_num_uses")], [3600, 2])
seen = app.read_secret_id("web", made["secret_id"])["data"]
check("looked up", [seen[k] for k in ("secret_id_accessor", "metadata", "cidr_list", "secret_id_num_uses")], [made["secret_id_accessor"], {"where": "here"}, ["127.0.0.1/32"], 2])
check("by its accessor", app.read_secret_id_accessor("web", made["secret_id_accessor"])["data"], seen)
check("listed", app.list_secret_id_accessors("web")["data"]["keys"], [made["secret_id_accessor"]])
robot = hvac.Client(url=c.url, token="")
auth = robot.auth.approle.login("the-role", made["secret_id"])["auth"]
check("logged in", [auth[k] for k in ("policies", "lease_duration", "orphan", "metadata")], [["app", "default"], 1800, True, {"role_name": "web", "where": "here"}])
check("who it is", robot.lookup_token()["data"]["display_name"], "approle")
kv.create_or_update_secret("app/x", {"password": "s3cret x"})
check("what it may", robot.secrets.kv.v2.read_secret_version("app/x")["data"]["data"], {"password": "s3cret x"})
refused("what it may not", exceptions.Forbidden, "permission denied", lambda: robot.secrets.kv.v2.read_secret_version("other"))
check("renewed", robot.auth.token.renew_self()["auth"]["lease_duration"], 1800)
robot.auth.approle.login("the-role", made["secret_id"])
refused("used up", exceptions.InvalidRequest, "invalid role or secret ID", lambda: robot.auth.approle.login("the-role", made["secret_id"]))
check("one of one's own", app.create_custom_secret_id("web", "s3cret of mine")["data"]["secret_id"], "s3cret of mine")
check("destroyed", app.destroy_secret_id("web", "s3cret of mine").status_code, 204)
made = app.generate_secret_id("web")["data"]
check("destroyed by its accessor", app.destroy_secret_id_accessor("web", made["secret_id_accessor"]).status_code, 204)
refused("none is left", exceptions.InvalidPath, "", lambda: app.list_secret_id_accessors("web"))
handed = c.write("auth/approle/role/web/secret-id", wrap_ttl="60s")["wrap_info"]
secret = sys_.unwrap(handed["token"])["data"]["secret_id"]
robot.auth.approle.login("the-role", secret)
check("handed over in a wrapping", robot.lookup_token()["data"]["meta"]["role_name"], "web")
check("delete the role", app.delete_role("web").status_code, 204)
refused("it is gone", exceptions.InvalidPath, "", lambda: app.read_role("web"))
check("disable the method", sys_.disable_auth_method("approle").status_code, 204)
check("its tokens are gone", robot.is_authenticated(), False)

sys_.enable_auth_method("userpass", path="people")
people = c.auth.userpass
check("a user", people.create_or_update_user("Bob", "s3cret word", policies="app", mount_point="people").status_code, 204)
check("users", people.list_user(mount_point="people")["data"]["keys"], ["bob"])
check("what he has", people.read_user("bob", mount_point="people")["data"]["token_policies"], ["app"])
person = hvac.Client(url=c.url, token="")
check("he logs in", person.auth.userpass.login("bob", "s3cret word", mount_point="people")["auth"]["metadata"], {"username": "bob"})
check("another password", people.update_password_on_user("bob", "s3cret other", mount_point="people").status_code, 204)
refused("the old one", exceptions.InvalidRequest, "invalid username or password", lambda: person.auth.userpass.login("bob", "s3cret word", mount_point="people"))
person.auth.userpass.login("bob", "s3cret other", mount_point="people")
check("who he is", person.lookup_token()["data"]["display_name"], "people-bob")
check("delete him", people.delete_user("bob", mount_point="people").status_code, 204)
refused("he is gone", exceptions.InvalidPath, "", lambda: people.read_user("bob", mount_point="people"))
sys_.disable_auth_method("people")
# JWTs, and the roles of client certificates.
folder = tempfile.TemporaryDirectory()
key, pem = os.path.join(folder.name, "key"), os.path.join(folder.name, "pem")
subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=ca", "-keyout", key, "-out", pem], check=True, capture_output=True)
ca = open(pem).read()


def signed(**claims):
    def b64(b):
        return base64.urlsafe_b64encode(b).rstrip(b"=")

    text = b64(b'{"alg":"RS256"}') + b"." + b64(json.dumps(claims).encode())
    sig = subprocess.run(["openssl", "dgst", "-sha256", "-sign", key], input=text, check=True, capture_output=True).stdout
    return (text + b"." + b64(sig)).decode()


sys_.enable_auth_method("jwt", path="ci")
jwt, now = c.auth.jwt, int(datetime.datetime.now().timestamp())
check("where the keys are", jwt.configure(jwt_validation_pubkeys=[ca], bound_issuer="ci", path="ci").status_code, 204)
check("the issuer", jwt.read_config(path="ci")["data"]["bound_issuer"], "ci")
jwt.create_role("deploy", "sub", [], bound_audiences=["keep"], bound_claims={"ref": ["main", "v*"]}, bound_claims_type="glob", claim_mappings={"ref": "branch"},
                token_policies=["default"], token_ttl="10m", path="ci")
check("its role", [jwt.read_role("deploy", path="ci")["data"][k] for k in ("role_type", "bound_claims", "token_ttl")], ["jwt", {"ref": ["main", "v*"]}, 600])
check("its roles", jwt.list_roles(path="ci")["data"]["keys"], ["deploy"])
got = jwt.jwt_login("deploy", signed(iss="ci", sub="job", aud="keep", ref="v2", exp=now + 60, iat=now), use_token=False, path="ci")["auth"]
check("a job logs in", [got[k] for k in ("policies", "lease_duration", "metadata")], [["default"], 600, {"role": "deploy", "branch": "v2"}])
refused("another branch does not", exceptions.InvalidRequest, 'claim "ref" does not match',
        lambda: jwt.jwt_login("deploy", signed(iss="ci", sub="job", aud="keep", ref="x", exp=now + 60, iat=now), path="ci"))
check("no role of it", jwt.delete_role("deploy", path="ci").status_code, 204)
check("no jobs", sys_.disable_auth_method("ci").status_code, 204)
sys_.enable_auth_method("cert")
cert = c.auth.cert
check("a role of certificates", cert.create_ca_certificate_role("web", certificate=pem, allowed_common_names="web.*", token_policies="default").status_code, 204)
check("what it wants", [cert.read_ca_certificate_role("web")["data"][k] for k in ("allowed_common_names", "display_name")], [["web.*"], "web"])
check("its kind", cert.list_certificate_roles()["data"]["keys"], ["web"])
check("binding", cert.configure_tls_certificate(disable_binding=True).status_code, 204)
check("no role of certificates", cert.delete_certificate_role("web").status_code, 204)
check("no certificates", sys_.disable_auth_method("cert").status_code, 204)

# Transit.
transit = c.secrets.transit


def b64(b):
    return base64.b64encode(b).decode()


sys_.enable_secrets_engine("transit")
refused("no keys", exceptions.InvalidPath, "", transit.list_keys)
check("a key", transit.create_key("app", exportable=True, allow_plaintext_backup=True)["data"]["type"], "aes256-gcm96")
check("keys", transit.list_keys()["data"]["keys"], ["app"])
read = transit.read_key("app")["data"]
check("what a key is like", {k: read[k] for k in read if k != "keys"}, {
    "name": "app", "type": "aes256-gcm96", "derived": False, "deletion_allowed": False, "min_available_version": 0, "min_decryption_version": 1, "min_encryption_version": 0,
    "latest_version": 1, "exportable": True, "allow_plaintext_backup": True, "supports_encryption": True, "supports_decryption": True, "supports_signing": False,
    "supports_derivation": True, "auto_rotate_period": 0, "imported_key": False, "soft_deleted": False})
check("its version is a time", abs(read["keys"]["1"] - datetime.datetime.now().timestamp()) < 300, True)
refused("a key that is none", exceptions.InvalidPath, "", lambda: transit.read_key("none"))

plain = b64(b"s3cret text")
made = transit.encrypt_data("app", plain)["data"]
check("encrypted", (made["ciphertext"][:9], made["key_version"]), ("vault:v1:", 1))
check("decrypted", transit.decrypt_data("app", made["ciphertext"])["data"]["plaintext"], plain)
check("rotated", transit.rotate_key("app")["data"]["latest_version"], 2)
again = transit.rewrap_data("app", made["ciphertext"])["data"]
check("rewrapped", (again["ciphertext"][:9], again["key_version"]), ("vault:v2:", 2))
check("decrypted again", transit.decrypt_data("app", again["ciphertext"])["data"]["plaintext"], plain)
check("an older version", transit.encrypt_data("app", plain, key_version=1)["data"]["key_version"], 1)
refused("a wrong ciphertext", exceptions.InvalidRequest, "cipher: message authentication failed", lambda: transit.decrypt_data("app", made["ciphertext"][:-4] + "AAAA"))
refused("no base64", exceptions.InvalidRequest, "illegal base64", lambda: transit.encrypt_data("app", "?"))
refused("a version that is not", exceptions.InvalidRequest, "version is too new", lambda: transit.decrypt_data("app", "vault:v9:" + made["ciphertext"][9:]))

batch = transit.encrypt_data("app", batch_input=[{"plaintext": plain, "reference": "a"}, {"plaintext": b64(b"s3cret two"), "key_version": 1}], plaintext="")["data"]["batch_results"]
check("a batch", [(r["ciphertext"][:9], r["key_version"], r["reference"]) for r in batch], [("vault:v2:", 2, "a"), ("vault:v1:", 1, "")])
back = transit.decrypt_data("app", "", batch_input=batch)["data"]["batch_results"]
check("a batch back", [r["plaintext"] for r in back], [plain, b64(b"s3cret two")])
check("a batch rewrapped", [r["key_version"] for r in transit.rewrap_data("app", "", batch_input=[{"ciphertext": r["ciphertext"]} for r in batch])["data"]["batch_results"]], [2, 2])
check("with versions of its own", [r["key_version"] for r in transit.rewrap_data("app", "", batch_input=batch)["data"]["batch_results"]], [2, 1])
refused("a batch that fails in part", exceptions.InvalidRequest, "", lambda: transit.encrypt_data("app", "", batch_input=[{"plaintext": plain}, {"plaintext": "?"}]))

data = transit.generate_data_key("app", "plaintext")["data"]
check("a data key", (len(base64.b64decode(data["plaintext"])), data["key_version"]), (32, 2))
check("it is the one encrypted", transit.decrypt_data("app", data["ciphertext"])["data"]["plaintext"], data["plaintext"])
for bits in 128, 256, 512:
    sealed = transit.generate_data_key("app", "wrapped", bits=bits)["data"]
    check("a wrapped data key of %d bits" % bits, ("plaintext" in sealed, len(base64.b64decode(transit.decrypt_data("app", sealed["ciphertext"])["data"]["plaintext"]))), (False, bits // 8))

check("random bytes", len(base64.b64decode(transit.generate_random_bytes(n_bytes=16)["data"]["random_bytes"])), 16)
check("random bytes in hex", len(transit.generate_random_bytes(n_bytes=24, output_format="hex")["data"]["random_bytes"]), 48)
check("32 by default", len(base64.b64decode(transit.generate_random_bytes()["data"]["random_bytes"])), 32)
for algorithm, digest in ("sha2-224", hashlib.sha224), ("sha2-256", hashlib.sha256), ("sha2-384", hashlib.sha384), ("sha2-512", hashlib.sha512):
    check(algorithm, transit.hash_data(plain, algorithm=algorithm, output_format="hex")["data"]["sum"], digest(b"s3cret text").hexdigest())
    check(algorithm + " in base64", transit.hash_data(plain, algorithm=algorithm, output_format="base64")["data"]["sum"], b64(digest(b"s3cret text").digest()))
    secrets = transit.export_key("app", "hmac-key")["data"]["keys"]
    made = transit.generate_hmac("app", plain, key_version=1, algorithm=algorithm)["data"]
    check("hmac by " + algorithm, made["hmac"], "vault:v1:" + b64(hmac.new(base64.b64decode(secrets["1"]), b"s3cret text", digest).digest()))
    check("its verification", transit.verify_signed_data("app", plain, hmac=made["hmac"], hash_algorithm=algorithm)["data"]["valid"], True)
    check("not of another text", transit.verify_signed_data("app", b64(b"other"), hmac=made["hmac"], hash_algorithm=algorithm)["data"]["valid"], False)
check("the hash by default", transit.hash_data(plain)["data"]["sum"], hashlib.sha256(b"s3cret text").hexdigest())
check("the hmac by default", transit.generate_hmac("app", plain)["data"]["hmac"][:9], "vault:v2:")

# Derived and convergent keys.
transit.create_key("one", derived=True, convergent_encryption=True, key_type="chacha20-poly1305")
read = transit.read_key("one")["data"]
check("a convergent key", [read[k] for k in ("type", "derived", "convergent_encryption", "kdf")], ["chacha20-poly1305", True, True, "hkdf_sha256"])
first_, second, other = (transit.encrypt_data("one", plain, context=b64(w))["data"]["ciphertext"] for w in (b"x", b"x", b"y"))
check("the same text gives the same", (first_ == second, first_ == other), (True, False))
check("its context opens it", transit.decrypt_data("one", first_, context=b64(b"x"))["data"]["plaintext"], plain)
refused("another does not", exceptions.InvalidRequest, "message authentication failed", lambda: transit.decrypt_data("one", first_, context=b64(b"y")))
refused("none does not", exceptions.InvalidRequest, "context", lambda: transit.decrypt_data("one", first_))
check("a data key with a context", len(transit.generate_data_key("one", "plaintext", context=b64(b"x"))["data"]["plaintext"]), 44)

# Signatures, with every type of key that has them.
with tempfile.TemporaryDirectory() as at:
    files = {name: os.path.join(at, name) for name in ("message", "signature", "public")}
    with open(files["message"], "wb") as f:
        f.write(b"s3cret text")
    for kind, name in (("ecdsa-p256", "P-256"), ("ecdsa-p384", "P-384"), ("ecdsa-p521", "P-521"), ("ed25519", "ed25519"), ("rsa-2048", "rsa-2048"), ("rsa-3072", "rsa-3072"), ("rsa-4096", "rsa-4096")):
        transit.create_key(kind, key_type=kind, exportable=True)
        read = transit.read_key(kind)["data"]
        version = read["keys"]["1"]
        check(kind, [read["supports_signing"], version["name"], version["creation_time"][:2]], [True, name, "20"])
        for way in ({}, {"hash_algorithm": "sha2-512"}, {"signature_algorithm": "pkcs1v15"}, {"marshaling_algorithm": "jws"}):
            made = transit.sign_data(kind, plain, **way)["data"]
            check("%s signs %s" % (kind, way), (made["signature"][:9], made["key_version"]), ("vault:v1:", 1))
            check("%s verifies %s" % (kind, way), transit.verify_signed_data(kind, plain, signature=made["signature"], **way)["data"]["valid"], True)
            check("%s: not of another text %s" % (kind, way), transit.verify_signed_data(kind, b64(b"other"), signature=made["signature"], **way)["data"]["valid"], False)
        if kind != "ed25519":
            digest = b64(hashlib.sha256(b"s3cret text").digest())
            made = transit.sign_data(kind, digest, prehashed=True, hash_algorithm="sha2-256", signature_algorithm="pkcs1v15")["data"]["signature"]
            check("%s: a hash is as its text" % kind, transit.verify_signed_data(kind, plain, signature=made, hash_algorithm="sha2-256", signature_algorithm="pkcs1v15")["data"]["valid"], True)
            with open(files["signature"], "wb") as f:
                f.write(base64.b64decode(made[9:]))
            with open(files["public"], "w") as f:
                f.write(version["public_key"])
            ran = subprocess.run(["openssl", "dgst", "-sha256", "-verify", files["public"], "-signature", files["signature"], files["message"]], capture_output=True, text=True)
            check("%s: OpenSSL verifies it" % kind, ran.stdout.strip(), "Verified OK")
        check("%s leaves" % kind, "PRIVATE KEY" in transit.export_key(kind, "signing-key", version="latest")["data"]["keys"]["1"] or kind == "ed25519", True)
    sealed = transit.encrypt_data("rsa-2048", plain)["data"]["ciphertext"]
    check("RSA decrypts", transit.decrypt_data("rsa-2048", sealed)["data"]["plaintext"], plain)
    refused("ECDSA does not encrypt", exceptions.InvalidRequest, "not supported for key type", lambda: transit.encrypt_data("ecdsa-p256", plain))
    refused("AES does not sign", exceptions.InvalidRequest, "does not support signing", lambda: transit.sign_data("app", plain))

# Export, settings, backup, trim, delete.
check("exported", sorted(transit.export_key("app", "encryption-key")["data"]["keys"]), ["1", "2"])
check("the latest", list(transit.export_key("app", "encryption-key", version="latest")["data"]["keys"]), ["2"])
refused("what may not leave", exceptions.InvalidRequest, "not exportable", lambda: transit.export_key("one", "encryption-key"))
refused("nor as a backup", exceptions.InvalidRequest, "exporting is disallowed", lambda: transit.backup_key("one"))
old = transit.encrypt_data("app", plain, key_version=1)["data"]["ciphertext"]
check("settings", transit.update_key_configuration("app", min_decryption_version=2, deletion_allowed=False)["data"]["min_decryption_version"], 2)
refused("too old", exceptions.InvalidRequest, "ciphertext or signature version is disallowed by policy (too old)", lambda: transit.decrypt_data("app", old))
backup = transit.backup_key("app")["data"]["backup"]
refused("restored over itself", exceptions.InvalidRequest, "already exists", lambda: transit.restore_key(backup))
check("restored under another name", transit.restore_key(backup, name="copy").status_code, 204)
check("restored by force", transit.restore_key(backup, force=True).status_code, 204)
check("the copy decrypts", transit.decrypt_data("copy", again["ciphertext"])["data"]["plaintext"], plain)
transit.update_key_configuration("app", min_encryption_version=2, min_decryption_version=0)
transit.rotate_key("app")
transit.update_key_configuration("app", min_decryption_version=2)
transit.update_key_configuration("app", min_encryption_version=3)
check("trimmed", transit.trim_key("app", 2)["data"]["min_available_version"], 2)
check("what is left", sorted(transit.read_key("app")["data"]["keys"]), ["2", "3"])
refused("not deleted", exceptions.InvalidRequest, "deletion is not allowed for this key", lambda: transit.delete_key("app"))
transit.update_key_configuration("app", deletion_allowed=True)
check("deleted", transit.delete_key("app").status_code, 204)
refused("it is gone", exceptions.InvalidRequest, "encryption key not found", lambda: transit.decrypt_data("app", again["ciphertext"]))
check("disable transit", sys_.disable_secrets_engine("transit").status_code, 204)

# The audit log.
check("audit devices", [(k, v["type"]) for k, v in sys_.list_enabled_audit_devices()["data"].items()], [("file/", "file")])
check("another", sys_.enable_audit_device("file", description="of hvac", options={"file_path": "discard"}, path="hvac").status_code, 204)
check("it is there", sys_.list_enabled_audit_devices()["data"]["hvac/"]["description"], "of hvac")
check("a hash", sys_.calculate_hash("hvac", "x")["data"]["hash"][:12], "hmac-sha256:")
check("disabled", sys_.disable_audit_device("hvac").status_code, 204)
refused("of the configuration", exceptions.InvalidRequest, "configuration-managed", lambda: sys_.disable_audit_device("file"))

# Seal and unseal.
check("seal", sys_.seal().status_code, 204)
check("sealed", sys_.is_sealed(), True)
check("health while sealed", sys_.read_health_status().status_code, 503)
refused("a sealed keep gives nothing again", exceptions.VaultDown, "Vault is sealed", lambda: kv.read_secret_version(odd))
refused("no share", exceptions.InvalidRequest, "not a recovery share", lambda: sys_.submit_unseal_key("c2hhcmU="))
shares = first["recovery_keys_base64"]
check("recovery shares", (len(shares), len(first["recovery_keys"])), (5, 5))
status = sys_.submit_unseal_key(shares[4])
check("a share", [status[k] for k in ("sealed", "t", "n", "progress")], [True, 3, 5, 1])
refused("the share again", exceptions.InvalidRequest, "", lambda: sys_.submit_unseal_key(shares[4]))
check("forget it", sys_.submit_unseal_key(reset=True)["progress"], 0)
check("three shares open", sys_.submit_unseal_keys(shares[1:4])["sealed"], False)
sys_.seal()
refused("a bare unseal", exceptions.Forbidden, "sealed by request", lambda: sys_.submit_unseal_key())
check("shares again", sys_.submit_unseal_keys(shares[:3])["sealed"], False)
check("all is there", kv.read_secret_version(odd)["data"]["metadata"]["version"], 1)
check("tuned still", sys_.read_mount_configuration("team/a")["data"]["description"], "tuned")

check("disable a mount", sys_.disable_secrets_engine("team/a").status_code, 204)
check("mounts at last", sorted(sys_.list_mounted_secrets_engines()["data"]), ["cubbyhole/", "secret/", "state/", "sys/"])
refused("a mount that is gone", exceptions.InvalidPath, "no handler for route", lambda: kv.read_secret_version("app/new", mount_point="team/a"))

# State and plans that OpenTofu encrypts with a transit key of the keep on this machine. Nobody has a token: the keep's unix
# socket tells it which user runs tofu. Once, as an operator, where 1000 is the user that runs tofu:
#
#   sealkeep secrets enable transit
#   sealkeep write -f transit/keys/tofu
#   sealkeep transit policy -for=tofu tofu | sealkeep policy write tofu -
#   sealkeep auth enable peer
#   sealkeep write auth/peer/role/tofu bound_uids=1000 token_policies=tofu token_ttl=1m
#
# A state that is not encrypted yet is read by its fallback, and written encrypted by the next apply. After that, delete the
# lines that end in "# migration", and set enforced = true.

terraform {
  required_version = ">= 1.10"

  encryption {
    key_provider "external" "keep" {
      command = ["sealkeep", "tofu-key-provider", "-address=unix:///run/sealkeep/api.sock", "-role=tofu", "tofu"]
    }
    method "aes_gcm" "keep" {
      keys = key_provider.external.keep
    }
    method "unencrypted" "before" {} # migration
    state {
      method   = method.aes_gcm.keep
      enforced = false
      fallback {                           # migration
        method = method.unencrypted.before # migration
      }                                    # migration
    }
    plan {
      method   = method.aes_gcm.keep
      enforced = true
    }
  }
}

# What the project makes; here a text, whose value nobody is to read in the state.
resource "terraform_data" "example" {
  input = var.secret
}

variable "secret" {
  type      = string
  sensitive = true
}

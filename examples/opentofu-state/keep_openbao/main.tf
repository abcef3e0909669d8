# State and plans that OpenTofu encrypts with a transit key of a keep. Its address and token are in BAO_ADDR and BAO_TOKEN
# (or VAULT_ADDR and VAULT_TOKEN). Once, as an operator:
#
#   sealkeep secrets enable transit
#   sealkeep write -f transit/keys/tofu
#   sealkeep transit policy -for=tofu tofu | sealkeep policy write tofu -
#   sealkeep token create -policy=tofu -ttl=1h
#
# A state that is not encrypted yet is read by its fallback, and written encrypted by the next apply. After that, delete the
# lines that end in "# migration", and set enforced = true. When the keep is gone for good, sealkeep transit export has the
# key that the state's data key was encrypted with.

terraform {
  required_version = ">= 1.10"

  encryption {
    key_provider "openbao" "keep" {
      key_name = "tofu"
    }
    method "aes_gcm" "keep" {
      keys = key_provider.openbao.keep
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

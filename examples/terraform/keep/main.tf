# State in a keep: TF_HTTP_PASSWORD is a token, or in a CI job the ID token, with TF_HTTP_USERNAME=jwt/ROLE.
# The policy of the token:
#
#   path "state/data/net/*" { capabilities = ["create", "read", "update"] }
#   path "state/lock/net/*" { capabilities = ["update"] }
#
terraform {
  backend "http" {
    address        = "https://keep.example.com:8200/state/net/prod"
    lock_address   = "https://keep.example.com:8200/state/net/prod"
    unlock_address = "https://keep.example.com:8200/state/net/prod"
  }
}

variable "size" {
  type    = number
  default = 1
}

resource "terraform_data" "network" {
  input = var.size
}

output "size" {
  value = terraform_data.network.output
}

output "password" {
  value     = "not for every reader"
  sensitive = true
}

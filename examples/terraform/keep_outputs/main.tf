# The outputs of another project, without the rest of its state: a policy with read on state/outputs/net/prod is enough.
# TF_HTTP_PASSWORD is not read here: the token is a variable.
variable "address" {
  type    = string
  default = "https://keep.example.com:8200"
}

variable "token" {
  type      = string
  sensitive = true
}

data "terraform_remote_state" "network" {
  backend = "http"
  config = {
    address  = "${var.address}/v1/state/outputs/net/prod"
    username = "token"
    password = var.token
  }
}

output "size" {
  value = data.terraform_remote_state.network.outputs.size
}

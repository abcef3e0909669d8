variable "project" {
  description = "Name of the project: its state is opentofu-states/PROJECT/terraform.tfstate"
  type        = string
}

variable "region" {
  description = "Region of the bucket and of the key"
  type        = string
}

variable "bucket" {
  description = "Name of the bucket (00_s3_backend)"
  type        = string
}

variable "kms_key_arn" {
  description = "ARN of the key (01_kms); the role encryption_role_arn is among its standard_users"
  type        = string
}

variable "encryption_role_arn" {
  description = "Role that uses the key (roles/)"
  type        = string
}

variable "backend_role_arn" {
  description = "Role that reads and writes the state (roles/)"
  type        = string
}

variable "dynamodb_table" {
  description = "Table that holds the locks; null: a file beside the state holds them"
  type        = string
  default     = null
}

variable "secret" {
  description = "What the example keeps in its state"
  type        = string
  sensitive   = true
}

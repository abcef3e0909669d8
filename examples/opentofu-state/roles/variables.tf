variable "bucket_arn" {
  description = "ARN of the bucket with the states (00_s3_backend)"
  type        = string
  validation {
    condition     = can(regex("^arn:aws[a-z-]*:s3:::[a-z0-9.-]+$", var.bucket_arn))
    error_message = "bucket_arn must be the ARN of a bucket: arn:aws:s3:::NAME."
  }
}

variable "user_name" {
  description = "Name of the user that assumes the roles"
  type        = string
  default     = "opentofu"
}

variable "dynamodb_table" {
  description = "Name of a table for locks; null: none is made, and files hold the locks"
  type        = string
  default     = null
}

variable "encryption_context" {
  description = "Encryption context without which the role may not use the key. aws_kms has one from OpenTofu 1.13 on: leave it empty before"
  type        = map(string)
  default     = {}
}

variable "kms_alias_name" {
  description = "Alias of the key, without alias/"
  type        = string
  default     = "sealkeep"
  validation {
    condition     = can(regex("^[A-Za-z0-9/_-]{1,250}$", var.kms_alias_name)) && !startswith(var.kms_alias_name, "alias/") && !startswith(var.kms_alias_name, "aws/")
    error_message = "kms_alias_name has letters, digits, /, _ and -, and does not begin with alias/ or aws/."
  }
}

variable "kms_key_description" {
  description = "Description of the key"
  type        = string
  default     = "Opens the keep"
}

variable "kms_key_deletion_window" {
  description = "Days between the order to delete the key and its end: 7 to 30"
  type        = number
  default     = 30
  validation {
    condition     = var.kms_key_deletion_window >= 7 && var.kms_key_deletion_window <= 30 && floor(var.kms_key_deletion_window) == var.kms_key_deletion_window
    error_message = "kms_key_deletion_window is a whole number from 7 to 30."
  }
}

variable "kms_key_rotation" {
  description = "Whether AWS makes new key material every year; what the old material encrypted opens as before"
  type        = bool
  default     = true
}

variable "kms_key_multi_region" {
  description = "Whether 02_replica can copy the key to another region. Set it before the first apply: a change replaces the key, and what the old one wrapped is lost with it"
  type        = bool
  default     = false
}

variable "admin_users" {
  description = "ARNs of IAM users and roles with full permissions on the key; whoever applies this is added"
  type        = list(string)
  validation {
    condition     = length(var.admin_users) > 0
    error_message = "admin_users needs at least one ARN."
  }
  validation {
    condition     = alltrue([for a in var.admin_users : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(root|(user|role)/[A-Za-z0-9_+=,.@/-]+)$", a))])
    error_message = "admin_users has ARNs of IAM: arn:aws:iam::ACCOUNT:user/NAME, role/NAME or root; in GovCloud arn:aws-us-gov:, in China arn:aws-cn:."
  }
}

variable "standard_users" {
  description = "ARNs of IAM users and roles that encrypt, decrypt, generate data keys and describe the key: the keep's, and OpenTofu's"
  type        = list(string)
  validation {
    condition     = length(var.standard_users) > 0
    error_message = "standard_users needs at least one ARN."
  }
  validation {
    condition     = alltrue([for a in var.standard_users : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(root|(user|role)/[A-Za-z0-9_+=,.@/-]+)$", a))])
    error_message = "standard_users has ARNs of IAM: arn:aws:iam::ACCOUNT:user/NAME, role/NAME or root; in GovCloud arn:aws-us-gov:, in China arn:aws-cn:."
  }
}

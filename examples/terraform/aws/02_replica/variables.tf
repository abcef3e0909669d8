variable "primary_key_arn" {
  description = "ARN of the key of 01_kms (its output kms_key_arn)"
  type        = string
  validation {
    condition     = can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/mrk-[a-z0-9-]+$", var.primary_key_arn))
    error_message = "primary_key_arn must be the ARN of a multi-region key: arn:aws:kms:REGION:ACCOUNT:key/mrk-ID."
  }
}

variable "replica_region" {
  description = "Region of the replica, another one than the primary key's"
  type        = string
}

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

# The KMS key that opens a keep by itself, and its alias.

terraform {
  required_version = ">= 1.10"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.40"
    }
  }
  backend "s3" {}
}

data "aws_caller_identity" "current" {}

# A session of a role stands for the role.
data "aws_iam_session_context" "current" {
  arn = data.aws_caller_identity.current.arn
}

locals {
  # AWS refuses a policy that locks its author out.
  admins = distinct(concat(var.admin_users, [data.aws_iam_session_context.current.issuer_arn]))
}

resource "aws_kms_key" "this" {
  description             = var.kms_key_description
  deletion_window_in_days = var.kms_key_deletion_window
  enable_key_rotation     = var.kms_key_rotation
  multi_region            = var.kms_key_multi_region
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "Administer"
        Effect    = "Allow"
        Principal = { AWS = local.admins }
        Action    = "kms:*"
        Resource  = "*"
      },
      {
        # kms:GenerateDataKey* is for OpenTofu's aws_kms and for buckets that this key encrypts by default. A keep needs the
        # other three only.
        Sid       = "Use"
        Effect    = "Allow"
        Principal = { AWS = var.standard_users }
        Action    = ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey*", "kms:DescribeKey"]
        Resource  = "*"
      },
    ]
  })
}

resource "aws_kms_alias" "this" {
  name          = "alias/${var.kms_alias_name}"
  target_key_id = aws_kms_key.this.key_id
}

# A replica of the key of 01_kms in another region: a second slot, which opens the keep while the first region is away.

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

provider "aws" {
  region = var.replica_region
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

# A replica has the material and the rotation of its primary key, and a policy and an alias of its own.
resource "aws_kms_replica_key" "this" {
  primary_key_arn         = var.primary_key_arn
  description             = var.kms_key_description
  deletion_window_in_days = var.kms_key_deletion_window
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
        Sid       = "Use"
        Effect    = "Allow"
        Principal = { AWS = var.standard_users }
        Action    = ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey*", "kms:DescribeKey"]
        Resource  = "*"
      },
    ]
  })
  lifecycle {
    precondition {
      condition     = split(":", var.primary_key_arn)[3] != var.replica_region
      error_message = "replica_region must be another region than the primary key's."
    }
  }
}

resource "aws_kms_alias" "this" {
  name          = "alias/${var.kms_alias_name}"
  target_key_id = aws_kms_replica_key.this.key_id
}

# Two roles, and a user that may do nothing but assume them: one role uses the key, the other reads and writes the state.
# Neither alone shows what is in a state.

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

resource "aws_iam_user" "this" {
  name = var.user_name
}

resource "aws_iam_user_policy" "assume" {
  name = "assume"
  user = aws_iam_user.this.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = "sts:AssumeRole"
      Resource = [aws_iam_role.encryption.arn, aws_iam_role.backend.arn]
    }]
  })
}

locals {
  trust = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { AWS = aws_iam_user.this.arn }
      Action    = "sts:AssumeRole"
    }]
  })
}

# The key's own policy allows this role to use it: the role is among the standard_users of 01_kms.
resource "aws_iam_role" "encryption" {
  name               = "opentofu-state-encryption"
  assume_role_policy = local.trust
}

resource "aws_iam_role_policy" "context" {
  count = length(var.encryption_context) > 0 ? 1 : 0
  name  = "context"
  role  = aws_iam_role.encryption.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [for name, value in var.encryption_context : {
      Effect    = "Deny"
      Action    = ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey*"]
      Resource  = "*"
      Condition = { StringNotEquals = { "kms:EncryptionContext:${name}" = value } }
    }]
  })
}

resource "aws_iam_role" "backend" {
  name               = "opentofu-remote-backend"
  assume_role_policy = local.trust
}

resource "aws_iam_role_policy" "state" {
  name = "state"
  role = aws_iam_role.backend.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat([
      {
        Effect    = "Allow"
        Action    = "s3:ListBucket"
        Resource  = var.bucket_arn
        Condition = { StringLike = { "s3:prefix" = ["opentofu-states/*"] } }
      },
      {
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:PutObject"]
        Resource = "${var.bucket_arn}/opentofu-states/*"
      },
      {
        Effect   = "Allow"
        Action   = "s3:DeleteObject"
        Resource = "${var.bucket_arn}/opentofu-states/*.tflock"
      },
      {
        # Whatever else the role is allowed one day: a lock ends by the deletion of its file, a state never does.
        Effect      = "Deny"
        Action      = ["s3:DeleteObject", "s3:DeleteObjectVersion"]
        NotResource = "${var.bucket_arn}/*.tflock"
      },
      ], [for table in aws_dynamodb_table.locks : {
        Effect   = "Allow"
        Action   = ["dynamodb:DescribeTable", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:DeleteItem"]
        Resource = table.arn
    }])
  })
}

resource "aws_dynamodb_table" "locks" {
  count        = var.dynamodb_table == null ? 0 : 1
  name         = var.dynamodb_table
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "LockID"
  attribute {
    name = "LockID"
    type = "S"
  }
}

mock_provider "aws" {
  mock_resource "aws_iam_user" {
    defaults = {
      arn = "arn:aws:iam::111122223333:user/opentofu"
    }
  }
  mock_resource "aws_iam_role" {
    defaults = {
      arn = "arn:aws:iam::111122223333:role/one-of-the-two"
    }
  }
  mock_resource "aws_dynamodb_table" {
    defaults = {
      arn = "arn:aws:dynamodb:eu-central-1:111122223333:table/opentofu-locks"
    }
  }
}

variables {
  bucket_arn = "arn:aws:s3:::example-terraform-state"
}

run "lockfile" {
  assert {
    condition     = jsonencode(jsondecode(aws_iam_user_policy.assume.policy).Statement) == jsonencode([{ Effect = "Allow", Action = "sts:AssumeRole", Resource = [aws_iam_role.encryption.arn, aws_iam_role.backend.arn] }])
    error_message = "the user may do something else"
  }
  assert {
    condition     = jsondecode(aws_iam_role.backend.assume_role_policy).Statement[0].Principal.AWS == aws_iam_user.this.arn
    error_message = "somebody else may assume the role"
  }
  assert {
    condition = [for s in jsondecode(aws_iam_role_policy.state.policy).Statement : try(s.NotResource, s.Resource) if strcontains(jsonencode(s.Action), "Delete")] == [
      "arn:aws:s3:::example-terraform-state/opentofu-states/*.tflock", "arn:aws:s3:::example-terraform-state/*.tflock",
    ]
    error_message = "the role deletes something else than lock files, or not these"
  }
  assert {
    condition     = length(aws_dynamodb_table.locks) == 0 && length(aws_iam_role_policy.context) == 0
    error_message = "there is a table, or a context"
  }
}

run "dynamodb" {
  variables {
    dynamodb_table = "opentofu-locks"
  }
  assert {
    condition     = one([for s in jsondecode(aws_iam_role_policy.state.policy).Statement : s.Resource if strcontains(jsonencode(s.Action), "dynamodb:")]) == aws_dynamodb_table.locks[0].arn
    error_message = "the role may not use the table"
  }
}

run "context" {
  variables {
    encryption_context = { project = "example" }
  }
  assert {
    condition = jsonencode(jsondecode(aws_iam_role_policy.context[0].policy).Statement) == jsonencode([{
      Effect    = "Deny", Action = ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey*"], Resource = "*"
      Condition = { StringNotEquals = { "kms:EncryptionContext:project" = "example" } }
    }])
    error_message = "the role uses the key without the context"
  }
}

run "no_bucket" {
  command = plan
  variables {
    bucket_arn = "example-terraform-state"
  }
  expect_failures = [var.bucket_arn]
}

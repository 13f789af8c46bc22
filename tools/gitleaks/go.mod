module millrace/tools/gitleaks

go 1.26.0

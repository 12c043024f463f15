module chancery.example/interop/tlog

go 1.21.13

require golang.org/x/mod v0.20.0

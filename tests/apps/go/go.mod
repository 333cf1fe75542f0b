module spanwire.test/hop

go 1.18

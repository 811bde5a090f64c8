#!lua
-- with: parts
-- The same where parts are added: refused when the server's memory is full.
return verb(function() return true end)

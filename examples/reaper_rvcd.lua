-- REAPER: one message to rvcd as an action, for a key, a toolbar button or a controller. Needs liblo's oscsend (liblo-tools).
--
-- Actions > New action > Load ReaScript. Copy the file under another name for another message.
-- The message, as oscsend takes it: an address, and where it takes one the type and the value, such as
--   /rvc/bypass/toggle     /rvc/mute/toggle        /rvc/panic           /rvc/voice/next
--   /rvc/voice/slot/2      /rvc/preset/recall/1    /rvc/pitch/step f 1  /rvc/pitch f -3
local message = "/rvc/bypass/toggle"
local host, port = "127.0.0.1", 9720

reaper.ExecProcess (string.format ("/usr/bin/oscsend %s %d %s", host, port, message), 1000)

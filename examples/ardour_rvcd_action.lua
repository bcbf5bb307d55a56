-- Ardour: one message to rvcd as an action, for a shortcut, a toolbar button, or a button of a control surface.
--
-- Copy this file into ~/.config/ardour8/scripts (the number is Ardour's version), then
-- Window > Scripting > Script Manager > Action Scripts > an unassigned row > Add/Set > "rvcd message".
-- Ardour asks for the message; assign the script again, under another row, for another one:
--   /rvc/bypass/toggle              /rvc/mute/toggle        /rvc/panic          /rvc/voice/next
--   /rvc/voice/slot/2               /rvc/preset/recall/1    /rvc/pitch/step 1   /rvc/pitch -3
ardour {
	["type"]    = "EditorAction",
	name        = "rvcd message",
	license     = "MIT",
	author      = "rvcd contributors",
	description = [[Send one OSC message to rvcd: an address, and a number where the address takes one.]]
}

function action_params ()
	return {
		["uri"]     = { title = "rvcd's OSC address", default = "osc.udp://127.0.0.1:9720" },
		["message"] = { title = "Message", default = "/rvc/bypass/toggle" },
	}
end

function factory (params)
	local rvcd = ARDOUR.LuaOSC.Address ((params or {})["uri"] or "osc.udp://127.0.0.1:9720")
	local message = (params or {})["message"] or "/rvc/bypass/toggle"
	return function ()
		local address, number = string.match (message, "^(%S+)%s*(%S*)$")
		if tonumber (number) then
			rvcd:send (address, "f", tonumber (number))
		else
			rvcd:send (address, "")
		end
	end
end

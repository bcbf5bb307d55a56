-- Ardour: rvcd records while Ardour records. It keeps your own voice beside the converted one.
--
-- Copy this file into ~/.config/ardour8/scripts (the number is Ardour's version), then
-- Window > Scripting > Script Manager > Action Hooks > New Hook > "rvcd records along".
-- Where rvcd writes, and why it may refuse (/rvc/fail, the log of rvcd): [record] in rvcd.toml.
ardour {
	["type"]    = "EditorHook",
	name        = "rvcd records along",
	license     = "MIT",
	author      = "rvcd contributors",
	description = [[Send /rvc/record 1 to rvcd when Ardour begins to record, and 0 when it ends.]]
}

function action_params ()
	return { ["uri"] = { title = "rvcd's OSC address", default = "osc.udp://127.0.0.1:9720" } }
end

function signals ()
	local both = LuaSignal.Set()
	both:add ({ [LuaSignal.TransportStateChange] = true })
	both:add ({ [LuaSignal.RecordStateChanged] = true })
	return both
end

function factory (params)
	local rvcd = ARDOUR.LuaOSC.Address ((params or {})["uri"] or "osc.udp://127.0.0.1:9720")
	local was_recording = false
	return function (signal, ref, ...)
		local is_recording = Session:actively_recording ()
		if is_recording ~= was_recording then
			was_recording = is_recording
			rvcd:send ("/rvc/record", "i", is_recording and 1 or 0)
		end
	end
end

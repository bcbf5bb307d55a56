// The OSC client of tests/osc/foreign_clients.py that is written with osc.js (npm: osc), as Companion and Open Stage Control are.
// Reads one packet a line from stdin, as JSON: {"address", "args": [{"type", "value"}]} or {"timeTag", "packets"}. Prints one line
// of JSON for each message it receives, the first one being its own port.
const osc = require("osc");
const [host, port] = process.argv.slice(2);

const socket = new osc.UDPPort({ localAddress: "127.0.0.1", localPort: 0, remoteAddress: host, remotePort: Number(port), metadata: true });
const say = (what) => process.stdout.write(JSON.stringify(what) + "\n");

socket.on("ready", () => say({ port: socket.socket.address().port }));
socket.on("message", (message) => say(message));
socket.on("error", (error) => say({ error: error.message }));
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
    const packet = JSON.parse(line);
    if (packet.packets) packet.timeTag = osc.timeTag(packet.timeTag);
    socket.send(packet);
}).on("close", () => process.exit(0));
socket.open();

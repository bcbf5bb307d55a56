/* The ring's callback driven by JACK's own API. libjack is opened at run time, so nothing of JACK is needed to build.
 * Everything between the two marks is also read by cffi (see _build.py): plain C. */
#ifndef RVCD_JACK_H
#define RVCD_JACK_H

#include "_monitor.h"

/* cffi: begin */
typedef struct rvcd_jack_library rvcd_jack_library;
typedef struct rvcd_jack rvcd_jack;

/* A library is opened once in the life of a process and never closed: its threads may outlive its clients.
 * NULL: it cannot be opened or lacks a function; rvcd_jack_problem says which. */
rvcd_jack_library *rvcd_jack_load(const char *path);
const char *rvcd_jack_problem(void);
int rvcd_jack_listens(const char *path); /* whether somebody listens at a local socket */
int rvcd_jack_is_pipewire(rvcd_jack_library *library);

/* Join the running server; never starts one. NULL: no server answers. in_ports is 1 or 2, there are always two outputs,
 * and two more for the monitor where has_monitor is 1. */
rvcd_jack *rvcd_jack_open(rvcd_jack_library *library, const char *name, uint32_t in_ports, int has_monitor);
uint32_t rvcd_jack_rate_hz(rvcd_jack *jack);
uint32_t rvcd_jack_period(rvcd_jack *jack); /* as last told by the server */
const char *rvcd_jack_name(rvcd_jack *jack);
int rvcd_jack_start(rvcd_jack *jack, rvcd_context *context, rvcd_segment *segment); /* 0, or what JACK returned */
void rvcd_jack_close(rvcd_jack *jack); /* may wait for as long as the server is frozen */

/* What the callbacks noted. */
int rvcd_jack_is_gone(rvcd_jack *jack);        /* the server has shut this client down */
int rvcd_jack_is_freewheeling(rvcd_jack *jack);
uint64_t rvcd_jack_port_changes(rvcd_jack *jack); /* how many ports came and went */
uint32_t rvcd_jack_input_latency(rvcd_jack *jack);  /* samples, from the source to our input */
uint32_t rvcd_jack_output_latency(rvcd_jack *jack); /* samples, from our output to the ear */
void rvcd_jack_report_latency(rvcd_jack *jack);     /* the stream's latency has changed: tell the graph */

/* The graph. Lists end with NULL and go back through rvcd_jack_free_list. */
const char **rvcd_jack_ports(rvcd_jack *jack, int outputs, int physical);
const char **rvcd_jack_connections(rvcd_jack *jack, uint32_t port);
void rvcd_jack_free_list(rvcd_jack *jack, const char **list);
const char *rvcd_jack_port_name(rvcd_jack *jack, uint32_t port); /* 0.. inputs, the two outputs, the monitor's two; "" beyond */
int rvcd_jack_connect(rvcd_jack *jack, const char *from, const char *to); /* 0, EEXIST, or another error */

/* For tests: what libjack calls. */
int rvcd_jack_process(uint32_t frames, void *jack);
void rvcd_jack_freewheel(int starting, void *jack);
/* cffi: end */

#endif

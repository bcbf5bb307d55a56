/* JACK's callbacks around the ring's.
 *
 * rvcd_jack_process runs in JACK's real-time thread: no lock, no allocation, no system call beyond rvcd_process's own. The
 * others run in libjack's notification thread and only note what happened; Python looks at it from a thread of its own.
 * The types and numbers below are JACK's stable binary interface, the same in jackd2 and PipeWire.
 */
#define _GNU_SOURCE

#include "_jack.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { NO_START_SERVER = 1 };
enum { PORT_IS_INPUT = 1, PORT_IS_OUTPUT = 2, PORT_IS_PHYSICAL = 4 };
enum { CAPTURE_LATENCY = 0, PLAYBACK_LATENCY = 1 };
#define AUDIO_TYPE "32 bit float mono audio"
#define PRETTY_NAME "http://jackaudio.org/metadata/pretty-name"
#define MOST_FRAMES 8192 /* JACK's own bound */
#define PORTS 6
#define PA_INPUT_OVERFLOW 2 /* how rvcd_process is told of an xrun: see _callback.c */
#define PA_OUTPUT_UNDERFLOW 4

typedef struct client client;
typedef struct port port;
typedef struct {
    uint32_t min;
    uint32_t max;
} range;

struct rvcd_jack_library {
    client *(*client_open)(const char *, int, int *, ...);
    int (*client_close)(client *);
    const char *(*get_client_name)(client *);
    uint32_t (*get_sample_rate)(client *);
    uint32_t (*get_buffer_size)(client *);
    int (*activate)(client *);
    int (*set_process_callback)(client *, int (*)(uint32_t, void *), void *);
    int (*set_buffer_size_callback)(client *, int (*)(uint32_t, void *), void *);
    int (*set_sample_rate_callback)(client *, int (*)(uint32_t, void *), void *);
    int (*set_xrun_callback)(client *, int (*)(void *), void *);
    int (*set_port_registration_callback)(client *, void (*)(uint32_t, int, void *), void *);
    int (*set_freewheel_callback)(client *, void (*)(int, void *), void *);
    int (*set_latency_callback)(client *, void (*)(int, void *), void *);
    void (*on_shutdown)(client *, void (*)(void *), void *);
    port *(*port_register)(client *, const char *, const char *, unsigned long, unsigned long);
    void *(*port_get_buffer)(port *, uint32_t);
    const char *(*port_name)(const port *);
    void (*port_get_latency_range)(port *, int, range *);
    void (*port_set_latency_range)(port *, int, range *);
    int (*recompute_total_latencies)(client *);
    const char **(*get_ports)(client *, const char *, const char *, unsigned long);
    const char **(*port_get_all_connections)(const client *, const port *);
    int (*connect)(client *, const char *, const char *);
    void (*free)(void *);
    void (*set_error_function)(void (*)(const char *));
    void (*set_info_function)(void (*)(const char *));
    /* May be missing. */
    const char *(*get_version_string)(void);
    uint64_t (*port_uuid)(const port *);
    int (*set_property)(client *, uint64_t, const char *, const char *, const char *);
};

struct rvcd_jack {
    rvcd_jack_library *library;
    client *client;
    port *ports[PORTS];
    uint32_t in_ports;
    uint32_t monitor_ports; /* 0 or 2 */
    rvcd_monitor *monitor;
    rvcd_context *context;
    rvcd_segment *segment;
    _Atomic uint32_t rate_hz;
    _Atomic uint32_t period;
    _Atomic uint32_t input_latency;
    _Atomic uint32_t output_latency;
    _Atomic uint64_t port_changes;
    _Atomic uint32_t xruns;
    uint32_t xruns_told;
    _Atomic int gone;
    _Atomic int freewheeling;
    float both[2 * MOST_FRAMES]; /* two inputs, interleaved */
};

/* Inputs come first, then the two outputs, then the monitor's. */
static uint32_t all_ports(const rvcd_jack *jack)
{
    return jack->in_ports + 2 + jack->monitor_ports;
}

/* ---- the library ---- */

static char problem[256];

const char *rvcd_jack_problem(void)
{
    return problem;
}

static void say_nothing(const char *text)
{
    (void)text;
}

rvcd_jack_library *rvcd_jack_load(const char *path)
{
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) {
        snprintf(problem, sizeof problem, "%s", dlerror());
        return NULL;
    }
    rvcd_jack_library *library = calloc(1, sizeof *library);
    if (library == NULL)
        return NULL;
    const struct {
        void **place;
        const char *name;
        int must;
    } wanted[] = {
        {(void **)&library->client_open, "jack_client_open", 1},
        {(void **)&library->client_close, "jack_client_close", 1},
        {(void **)&library->get_client_name, "jack_get_client_name", 1},
        {(void **)&library->get_sample_rate, "jack_get_sample_rate", 1},
        {(void **)&library->get_buffer_size, "jack_get_buffer_size", 1},
        {(void **)&library->activate, "jack_activate", 1},
        {(void **)&library->set_process_callback, "jack_set_process_callback", 1},
        {(void **)&library->set_buffer_size_callback, "jack_set_buffer_size_callback", 1},
        {(void **)&library->set_sample_rate_callback, "jack_set_sample_rate_callback", 1},
        {(void **)&library->set_xrun_callback, "jack_set_xrun_callback", 1},
        {(void **)&library->set_port_registration_callback, "jack_set_port_registration_callback", 1},
        {(void **)&library->set_freewheel_callback, "jack_set_freewheel_callback", 1},
        {(void **)&library->set_latency_callback, "jack_set_latency_callback", 1},
        {(void **)&library->on_shutdown, "jack_on_shutdown", 1},
        {(void **)&library->port_register, "jack_port_register", 1},
        {(void **)&library->port_get_buffer, "jack_port_get_buffer", 1},
        {(void **)&library->port_name, "jack_port_name", 1},
        {(void **)&library->port_get_latency_range, "jack_port_get_latency_range", 1},
        {(void **)&library->port_set_latency_range, "jack_port_set_latency_range", 1},
        {(void **)&library->recompute_total_latencies, "jack_recompute_total_latencies", 1},
        {(void **)&library->get_ports, "jack_get_ports", 1},
        {(void **)&library->port_get_all_connections, "jack_port_get_all_connections", 1},
        {(void **)&library->connect, "jack_connect", 1},
        {(void **)&library->free, "jack_free", 1},
        {(void **)&library->set_error_function, "jack_set_error_function", 1},
        {(void **)&library->set_info_function, "jack_set_info_function", 1},
        {(void **)&library->get_version_string, "jack_get_version_string", 0},
        {(void **)&library->port_uuid, "jack_port_uuid", 0},
        {(void **)&library->set_property, "jack_set_property", 0},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        *wanted[i].place = dlsym(handle, wanted[i].name);
        if (*wanted[i].place == NULL && wanted[i].must) {
            snprintf(problem, sizeof problem, "%s lacks %s", path, wanted[i].name);
            free(library);
            return NULL;
        }
    }
    library->set_error_function(say_nothing); /* no server is a fact, not something to print at each try */
    library->set_info_function(say_nothing);
    return library;
}

int rvcd_jack_listens(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return 0;
    strcpy(address.sun_path, path);
    const int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const int listens = descriptor >= 0 && connect(descriptor, (struct sockaddr *)&address, sizeof address) == 0;
    if (descriptor >= 0)
        close(descriptor);
    return listens;
}

int rvcd_jack_is_pipewire(rvcd_jack_library *library)
{
    const char *version = library->get_version_string == NULL ? NULL : library->get_version_string();
    return version != NULL && strstr(version, "PipeWire") != NULL;
}

/* ---- callbacks ---- */

static uint32_t added(uint32_t latency, uint64_t more)
{
    const uint64_t sum = latency + more;
    return sum > INT32_MAX ? INT32_MAX : (uint32_t)sum;
}

/* JACK asks in the direction of the sound for capture, against it for playback: what a port gets is known by then. */
static void on_latency(int mode, void *argument)
{
    rvcd_jack *jack = argument;
    rvcd_jack_library *library = jack->library;
    const uint64_t own = jack->segment == NULL ? 0 : LOAD(jack->segment->latency_samples);
    const uint32_t from = mode == CAPTURE_LATENCY ? 0 : jack->in_ports;
    const uint32_t until = mode == CAPTURE_LATENCY ? jack->in_ports : jack->in_ports + 2;
    range total = {0, 0};
    for (uint32_t i = from; i < until; i++) {
        range found = {0, 0};
        library->port_get_latency_range(jack->ports[i], mode, &found);
        total.min = i == from || found.min < total.min ? found.min : total.min;
        total.max = found.max > total.max ? found.max : total.max;
    }
    if (mode == CAPTURE_LATENCY)
        STORE(jack->input_latency, total.max);
    else
        STORE(jack->output_latency, total.max);
    range passed = {added(total.min, own), added(total.max, own)};
    for (uint32_t i = 0; i < jack->in_ports + 2; i++)
        if ((i < jack->in_ports) == (mode == PLAYBACK_LATENCY))
            library->port_set_latency_range(jack->ports[i], mode, &passed);
    if (mode == CAPTURE_LATENCY && jack->segment != NULL && LOAD(jack->segment->monitor_raw) == 1)
        passed = total; /* the microphone is not delayed */
    for (uint32_t i = jack->in_ports + 2; i < all_ports(jack) && mode == CAPTURE_LATENCY; i++)
        library->port_set_latency_range(jack->ports[i], mode, &passed);
}

static int on_buffer_size(uint32_t frames, void *argument)
{
    rvcd_jack *jack = argument;
    STORE(jack->period, frames);
    return 0;
}

static int on_rate(uint32_t rate_hz, void *argument)
{
    rvcd_jack *jack = argument;
    STORE(jack->rate_hz, rate_hz);
    return 0;
}

static int on_xrun(void *argument)
{
    rvcd_jack *jack = argument;
    atomic_fetch_add(&jack->xruns, 1);
    return 0;
}

static void on_port(uint32_t number, int is_new, void *argument)
{
    rvcd_jack *jack = argument;
    (void)number;
    (void)is_new;
    atomic_fetch_add(&jack->port_changes, 1);
}

static void on_shutdown(void *argument)
{
    rvcd_jack *jack = argument;
    STORE(jack->gone, 1);
}

void rvcd_jack_freewheel(int starting, void *argument)
{
    rvcd_jack *jack = argument;
    STORE(jack->freewheeling, starting != 0);
}

/* What has just been processed, to the monitor's ports; silence where it was not. */
static void give_monitor(rvcd_jack *jack, float *const out[2], uint32_t frames, int processed)
{
    float *first = out[0] != NULL ? out[0] : out[1];
    if (first == NULL)
        return;
    if (processed) {
        const uint64_t end = LOAD(jack->segment->device_position);
        rvcd_monitor_period(jack->monitor, first, end - frames, frames);
        rvcd_add(&jack->segment->monitor_samples, frames);
    } else
        memset(first, 0, frames * sizeof(float));
    if (out[1] != NULL && out[1] != first)
        memcpy(out[1], first, frames * sizeof(float));
}

int rvcd_jack_process(uint32_t frames, void *argument)
{
    rvcd_jack *jack = argument;
    rvcd_jack_library *library = jack->library;
    float *monitor_out[2] = {NULL, NULL};
    for (uint32_t i = 0; i < jack->monitor_ports; i++)
        monitor_out[i] = library->port_get_buffer(jack->ports[jack->in_ports + 2 + i], frames);
    const float *in[2] = {NULL, NULL};
    float *out[2];
    for (uint32_t i = 0; i < jack->in_ports; i++)
        in[i] = library->port_get_buffer(jack->ports[i], frames);
    for (uint32_t i = 0; i < 2; i++)
        out[i] = library->port_get_buffer(jack->ports[jack->in_ports + i], frames);
    /* Faster than time nothing can be converted, and at another rate it would be another voice. */
    if (LOAD(jack->freewheeling) || frames > MOST_FRAMES || LOAD(jack->rate_hz) != jack->segment->rate_hz) {
        for (uint32_t i = 0; i < 2; i++)
            if (out[i] != NULL)
                memset(out[i], 0, frames * sizeof(float));
        give_monitor(jack, monitor_out, frames, 0);
        if (atomic_load(&jack->segment->owner) == jack->context->serial)
            STORE(jack->segment->last_callback_ns, rvcd_now_ns()); /* the server lives */
        return 0;
    }
    const float *input = in[0];
    if (jack->in_ports == 2) {
        for (uint32_t i = 0; i < frames; i++) {
            jack->both[2 * i] = in[0] == NULL ? 0.0f : in[0][i];
            jack->both[2 * i + 1] = in[1] == NULL ? 0.0f : in[1][i];
        }
        input = jack->both;
    }
    const uint32_t xruns = LOAD(jack->xruns);
    const unsigned long flags = xruns != jack->xruns_told ? PA_INPUT_OVERFLOW | PA_OUTPUT_UNDERFLOW : 0;
    jack->xruns_told = xruns;
    const int refused = rvcd_process(jack->context, input, out[0], frames, flags);
    give_monitor(jack, monitor_out, frames, !refused);
    if (out[0] != NULL && out[1] != NULL)
        memcpy(out[1], out[0], frames * sizeof(float));
    return 0;
}

/* ---- a client ---- */

static int make_port(rvcd_jack *jack, uint32_t index, const char *name, const char *pretty, unsigned long flags)
{
    rvcd_jack_library *library = jack->library;
    jack->ports[index] = library->port_register(jack->client, name, AUDIO_TYPE, flags, 0);
    if (jack->ports[index] == NULL)
        return -1;
    if (library->port_uuid != NULL && library->set_property != NULL)
        library->set_property(jack->client, library->port_uuid(jack->ports[index]), PRETTY_NAME, pretty, "text/plain");
    return 0;
}

rvcd_jack *rvcd_jack_open(rvcd_jack_library *library, const char *name, uint32_t in_ports, int has_monitor)
{
    rvcd_jack *jack = calloc(1, sizeof *jack);
    int status = 0;
    if (jack == NULL)
        return NULL;
    jack->library = library;
    jack->in_ports = in_ports == 2 ? 2 : 1;
    jack->monitor_ports = has_monitor ? 2 : 0;
    jack->client = library->client_open(name, NO_START_SERVER, &status);
    if (jack->client == NULL) {
        free(jack);
        return NULL;
    }
    STORE(jack->rate_hz, library->get_sample_rate(jack->client));
    STORE(jack->period, library->get_buffer_size(jack->client));
    library->set_process_callback(jack->client, rvcd_jack_process, jack);
    library->set_buffer_size_callback(jack->client, on_buffer_size, jack);
    library->set_sample_rate_callback(jack->client, on_rate, jack);
    library->set_xrun_callback(jack->client, on_xrun, jack);
    library->set_port_registration_callback(jack->client, on_port, jack);
    library->set_freewheel_callback(jack->client, rvcd_jack_freewheel, jack);
    library->set_latency_callback(jack->client, on_latency, jack);
    library->on_shutdown(jack->client, on_shutdown, jack);
    int failed = 0;
    if (jack->in_ports == 1)
        failed |= make_port(jack, 0, "in", "Your voice", PORT_IS_INPUT);
    else {
        failed |= make_port(jack, 0, "in_left", "Your voice, left", PORT_IS_INPUT);
        failed |= make_port(jack, 1, "in_right", "Your voice, right", PORT_IS_INPUT);
    }
    failed |= make_port(jack, jack->in_ports, "out_left", "Converted voice, left", PORT_IS_OUTPUT);
    failed |= make_port(jack, jack->in_ports + 1, "out_right", "Converted voice, right", PORT_IS_OUTPUT);
    if (jack->monitor_ports) {
        failed |= make_port(jack, jack->in_ports + 2, "monitor_1", "Monitor, left", PORT_IS_OUTPUT);
        failed |= make_port(jack, jack->in_ports + 3, "monitor_2", "Monitor, right", PORT_IS_OUTPUT);
    }
    if (failed) {
        rvcd_jack_close(jack);
        return NULL;
    }
    return jack;
}

uint32_t rvcd_jack_rate_hz(rvcd_jack *jack)
{
    return LOAD(jack->rate_hz);
}

uint32_t rvcd_jack_period(rvcd_jack *jack)
{
    return LOAD(jack->period);
}

const char *rvcd_jack_name(rvcd_jack *jack)
{
    return jack->library->get_client_name(jack->client);
}

int rvcd_jack_start(rvcd_jack *jack, rvcd_context *context, rvcd_segment *segment)
{
    jack->context = context;
    jack->segment = segment;
    if (jack->monitor_ports) {
        jack->monitor = rvcd_monitor_new(segment);
        if (jack->monitor == NULL)
            return -1;
    }
    return jack->library->activate(jack->client);
}

void rvcd_jack_close(rvcd_jack *jack)
{
    jack->library->client_close(jack->client);
    rvcd_monitor_free(jack->monitor);
    free(jack);
}

int rvcd_jack_is_gone(rvcd_jack *jack)
{
    return LOAD(jack->gone);
}

int rvcd_jack_is_freewheeling(rvcd_jack *jack)
{
    return LOAD(jack->freewheeling);
}

uint64_t rvcd_jack_port_changes(rvcd_jack *jack)
{
    return LOAD(jack->port_changes);
}

uint32_t rvcd_jack_input_latency(rvcd_jack *jack)
{
    return LOAD(jack->input_latency);
}

uint32_t rvcd_jack_output_latency(rvcd_jack *jack)
{
    return LOAD(jack->output_latency);
}

void rvcd_jack_report_latency(rvcd_jack *jack)
{
    jack->library->recompute_total_latencies(jack->client); /* jackd2 calls on_latency for it, PipeWire does nothing */
    on_latency(CAPTURE_LATENCY, jack);
    on_latency(PLAYBACK_LATENCY, jack);
}

/* ---- the graph ---- */

const char **rvcd_jack_ports(rvcd_jack *jack, int outputs, int physical)
{
    const unsigned long flags = (outputs ? PORT_IS_OUTPUT : PORT_IS_INPUT) | (physical ? PORT_IS_PHYSICAL : 0);
    return jack->library->get_ports(jack->client, NULL, AUDIO_TYPE, flags);
}

const char **rvcd_jack_connections(rvcd_jack *jack, uint32_t index)
{
    return index >= all_ports(jack) ? NULL : jack->library->port_get_all_connections(jack->client, jack->ports[index]);
}

void rvcd_jack_free_list(rvcd_jack *jack, const char **list)
{
    if (list != NULL)
        jack->library->free((void *)list);
}

const char *rvcd_jack_port_name(rvcd_jack *jack, uint32_t index)
{
    return index >= all_ports(jack) ? "" : jack->library->port_name(jack->ports[index]);
}

int rvcd_jack_connect(rvcd_jack *jack, const char *from, const char *to)
{
    return jack->library->connect(jack->client, from, to);
}

/*
 * The lab's program in a guest: builds the root, runs one command, reports how it ended.
 *
 * In User Mode Linux it is PID 1 and gets the job from the kernel command line (LAB_JOB). Under QEMU virtme-ng has
 * booted the machine and starts it as: init PORT JOB, with the name of a virtio port.
 *
 * Written in C and linked statically because every exec costs 0.1 to 0.2 s in User Mode Linux: a shell script would
 * spend longer on mount(8) than the kernel spends on booting.
 *
 * It talks to the host in frames (see wire.py):
 *     type (1 byte)  length (4 bytes, little-endian)  payload
 * Framing keeps stdout and stderr apart, gives stdin an end, and leaves the kernel's console to the kernel.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

enum {
	TO_HOST_READY = 'r',  /* the command has been started; the host may send frames from now on */
	TO_HOST_TAKEN = 't',  /* the command has taken the last STDIN frame; the host may send the next */
	TO_HOST_STDOUT = 'o',
	TO_HOST_STDERR = 'e',
	TO_HOST_STATUS = 'x', /* the command's wait status, int32: the last frame */
	TO_HOST_FAILED = 'f', /* the guest could not be set up: a message */
	FROM_HOST_STDIN = 'i', /* empty payload: end of file */
	FROM_HOST_WINDOW = 'w', /* rows, columns: uint16 each */
	FROM_HOST_SIGNAL = 'k', /* a signal for the command, one byte */
};

enum { HEADER = 5, CHUNK = 32768, NOFILE = 1048576 };

#define NEW_ROOT "/run/root"

static int host = -1; /* the tty or port to the host */
static int booted;    /* by somebody else: we are not PID 1 */

/* What the host asks for, read from the file that the kernel command line names. */
static struct {
	char *cwd, *hostname;
	int tmp, pty;
	char **writable, **env, **argv;
} job = { .cwd = "/", .hostname = "lab" };

static void write_all(int fd, const void *data, size_t size)
{
	for (const char *p = data; size;) {
		ssize_t n = write(fd, p, size);
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return;
		if (n > 0)
			p += n, size -= n;
	}
}

static void send_frame(char type, const void *payload, uint32_t size)
{
	char header[HEADER] = { type, size, size >> 8, size >> 16, size >> 24 };

	write_all(host, header, HEADER);
	write_all(host, payload, size);
}

/* Reports the end. The host kills the guest on reading it; returning from PID 1 would be a panic. */
static void __attribute__((noreturn)) finish(char type, const void *payload, uint32_t size)
{
	sync(); /* hostfs writes back late: without this, files under --writable would stay empty */
	send_frame(type, payload, size);
	for (;;)
		pause();
}

static void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *format, ...)
{
	char message[1024];
	int error = errno;
	va_list ap;

	va_start(ap, format);
	int n = vsnprintf(message, sizeof message - 128, format, ap);
	va_end(ap);
	n += snprintf(message + n, 128, ": %s", strerror(error));
	finish(TO_HOST_FAILED, message, n);
}

static void mount_at(const char *type, const char *where, unsigned long flags, const char *options)
{
	if (mkdir(where, 0755) && errno != EEXIST)
		fail("mkdir %s", where);
	if (mount(type, where, type, flags, options))
		fail("mount %s on %s", type, where);
}

/* For what is nice to have and depends on how the kernel was configured. */
static void try_mount_at(const char *type, const char *where)
{
	mkdir(where, 0755);
	mount(type, where, type, 0, NULL);
}

static void make_directories(const char *path)
{
	char *copy = strdup(path);

	for (char *p = copy + 1; (p = strchr(p, '/')); *p++ = '/') {
		*p = 0;
		mkdir(copy, 0755);
	}
	mkdir(copy, 0755);
	free(copy);
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd >= 0) {
		write_all(fd, text, strlen(text));
		close(fd);
	}
}

/* In User Mode Linux the channel is a console: devtmpfs first, then raw mode. */
static void open_tty(void)
{
	struct termios raw;

	if (mount("devtmpfs", "/dev", "devtmpfs", 0, NULL))
		exit(1);
	while (open("/dev/null", O_RDWR) < 2)
		; /* a host without /dev/console leaves PID 1 without standard streams */
	host = open("/dev/tty1", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (host < 0)
		exit(1);
	tcgetattr(host, &raw);
	cfmakeraw(&raw);
	tcsetattr(host, TCSANOW, &raw);
}

/* Under QEMU it is a virtio port; without udev only sysfs knows its name. */
static void open_port(const char *wanted)
{
	DIR *ports = opendir("/sys/class/virtio-ports");
	struct dirent *entry;
	char path[512], name[64];

	while (ports && (entry = readdir(ports))) {
		snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", entry->d_name);
		FILE *file = fopen(path, "re");
		if (file && fgets(name, sizeof name, file) && !strncmp(name, wanted, strlen(wanted))) {
			snprintf(path, sizeof path, "/dev/%s", entry->d_name);
			host = open(path, O_RDWR | O_CLOEXEC);
		}
		if (file)
			fclose(file);
	}
	if (host < 0 || unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		exit(1);
	booted = 1;
}

static char *read_file(const char *path, size_t *size)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st))
		fail("%s", path);
	char *text = malloc(st.st_size + 1);
	ssize_t n = read(fd, text, st.st_size);
	close(fd);
	*size = n < 0 ? 0 : n;
	text[*size] = 0;
	return text;
}

/* The job file: records of one letter and a string, each ended by a NUL byte. */
static void read_job(const char *path)
{
	size_t size, records = 1, writable = 0, env = 0, argv = 0;
	char *text = read_file(path, &size);

	for (size_t i = 0; i < size; i++)
		records += !text[i];
	job.writable = calloc(records, sizeof(char *));
	job.env = calloc(records, sizeof(char *));
	job.argv = calloc(records, sizeof(char *));
	for (char *p = text; p < text + size; p += strlen(p) + 1) {
		switch (*p) {
		case 'C': job.cwd = p + 1; break;
		case 'H': job.hostname = p + 1; break;
		case 'T': job.tmp = 1; break;
		case 'P': job.pty = 1; break;
		case 'W': job.writable[writable++] = p + 1; break;
		case 'E': job.env[env++] = p + 1; break;
		case 'A': job.argv[argv++] = p + 1; break;
		}
	}
}

/* The host's root, read-only, with everything the guest writes going to a tmpfs over it. */
static void make_overlay(void)
{
	mount_at("tmpfs", "/run", 0, "mode=755,size=90%");
	mkdir("/run/upper", 0755);
	mkdir("/run/work", 0755);
	mount_at("overlay", NEW_ROOT, 0, "lowerdir=/,upperdir=/run/upper,workdir=/run/work");
}

static void bind_mount(const char *path)
{
	char target[4096];

	snprintf(target, sizeof target, NEW_ROOT "%s", path);
	make_directories(target);
	if (mount(path, target, NULL, MS_BIND | MS_REC, NULL))
		fail("bind %s", path);
}

/* Directories of the host that the command may write to. */
static void mount_writable(void)
{
	char target[4096];

	for (char **dir = job.writable; *dir; dir++) {
		snprintf(target, sizeof target, NEW_ROOT "%s", *dir);
		make_directories(target);
		if (booted)
			bind_mount(*dir);
		else if (mount("hostfs", target, "hostfs", 0, *dir))
			fail("mount the host's %s", *dir);
	}
}

static void enter_overlay(void)
{
	if (chdir(NEW_ROOT) || mount(".", "/", NULL, MS_MOVE, NULL) || chroot("."))
		fail("enter the overlay");
}

static void make_link(const char *target, const char *path)
{
	unlink(path);
	if (symlink(target, path))
		fail("link %s", path);
}

static void mount_kernel_filesystems(void)
{
	mount_at("proc", "/proc", 0, NULL);
	mount_at("sysfs", "/sys", 0, NULL);
	try_mount_at("cgroup2", "/sys/fs/cgroup");
	try_mount_at("debugfs", "/sys/kernel/debug");
	mount_at("devtmpfs", "/dev", 0, "mode=755");
	mkdir("/dev/net", 0755);
	mknod("/dev/ppp", S_IFCHR | 0600, makedev(108, 0)); /* opening the node loads the module */
	mknod("/dev/net/tun", S_IFCHR | 0666, makedev(10, 200));
	mount_at("devpts", "/dev/pts", 0, "mode=620,ptmxmode=666");
	mount_at("tmpfs", "/dev/shm", 0, "mode=1777");
	try_mount_at("mqueue", "/dev/mqueue");
	make_link("pts/ptmx", "/dev/ptmx");
	make_link("/proc/self/fd", "/dev/fd");
	make_link("/proc/self/fd/0", "/dev/stdin");
	make_link("/proc/self/fd/1", "/dev/stdout");
	make_link("/proc/self/fd/2", "/dev/stderr");
	mount_at("tmpfs", "/run", 0, "mode=755");
	mkdir("/run/lock", 01777);
}

static void raise_limits(void)
{
	struct rlimit files = { NOFILE, NOFILE }, none = { RLIM_INFINITY, RLIM_INFINITY };

	setrlimit(RLIMIT_NOFILE, &files);
	setrlimit(RLIMIT_MEMLOCK, &none);
	setrlimit(RLIMIT_NPROC, &none);
	write_file("/proc/sys/fs/file-max", "8388608");
}

static void bring_up_loopback(void)
{
	struct ifreq request = { .ifr_name = "lo" };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request))
		fail("loopback");
	request.ifr_flags |= IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &request))
		fail("loopback up");
	close(fd);
}

/* The command's standard streams: our ends, and the ends that it gets. */
struct streams {
	int in, out, err;
	int child[3];
};

static void open_streams(struct streams *s)
{
	int in[2], out[2], err[2];

	if (job.pty) {
		int master, slave;
		if (openpty(&master, &slave, NULL, NULL, NULL))
			fail("openpty");
		fcntl(master, F_SETFD, FD_CLOEXEC);
		*s = (struct streams){ dup(master), master, -1, { slave, dup(slave), dup(slave) } };
		fcntl(s->in, F_SETFD, FD_CLOEXEC);
		return;
	}
	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
		fail("pipe");
	*s = (struct streams){ in[1], out[0], err[0], { in[0], out[1], err[1] } };
	fcntl(s->in, F_SETFL, O_NONBLOCK);
}

static void __attribute__((noreturn)) run_command(const struct streams *s)
{
	sigset_t none;

	setsid();
	for (int fd = 0; fd < 3; fd++)
		dup2(s->child[fd], fd);
	for (int fd = 0; fd < 3; fd++)
		if (s->child[fd] > 2)
			close(s->child[fd]);
	if (job.pty)
		ioctl(0, TIOCSCTTY, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	environ = job.env;
	if (chdir(job.cwd)) {
		dprintf(2, "lab: cannot enter %s: %s\n", job.cwd, strerror(errno));
		_exit(125);
	}
	execvp(job.argv[0], job.argv);
	int missing = errno == ENOENT;
	dprintf(2, "lab: cannot run %s: %s\n", job.argv[0], strerror(errno));
	_exit(missing ? 127 : 126);
}

/*
 * Bytes from the host. It sends one STDIN frame at a time and waits until that is taken: so the little that is on its
 * way always fits here and into the tty, whose flow control in User Mode Linux loses wake-ups.
 */
static struct {
	char frames[CHUNK];
	size_t filled;
	char pending[CHUNK]; /* of the last STDIN frame, what the command has not taken yet */
	size_t left;
} input;

static void feed_stdin(int in)
{
	ssize_t n = write(in, input.pending, input.left);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0)
		n = input.left; /* the command closed its stdin: drop what comes */
	input.left -= n;
	memmove(input.pending, input.pending + n, input.left);
	if (!input.left)
		send_frame(TO_HOST_TAKEN, NULL, 0);
}

static void take_stdin(const char *payload, size_t size, int *in)
{
	if (!size && *in >= 0) {
		close(*in);
		*in = -1;
	}
	if (size) {
		memcpy(input.pending, payload, size);
		input.left = size;
		feed_stdin(*in);
	}
}

static void handle_frame(char type, const char *payload, size_t size, int *in, pid_t command)
{
	switch (type) {
	case FROM_HOST_STDIN:
		take_stdin(payload, size, in);
		break;
	case FROM_HOST_WINDOW:
		if (*in >= 0) {
			struct winsize window = { 0 };
			memcpy(&window.ws_row, payload, 2);
			memcpy(&window.ws_col, payload + 2, 2);
			ioctl(*in, TIOCSWINSZ, &window);
		}
		break;
	case FROM_HOST_SIGNAL:
		kill(-command, *payload);
		break;
	}
}

static void read_frames(int *in, pid_t command)
{
	ssize_t n = read(host, input.frames + input.filled, CHUNK - input.filled);
	char *p = input.frames;

	if (n > 0)
		input.filled += n;
	while (input.filled >= HEADER) {
		uint32_t size;
		memcpy(&size, p + 1, 4);
		if (input.filled < HEADER + size)
			break;
		handle_frame(*p, p + HEADER, size, in, command);
		p += HEADER + size;
		input.filled -= HEADER + size;
	}
	memmove(input.frames, p, input.filled);
}

/* One read: returns 0 when there is nothing more to expect. */
static int relay(int *fd, char type)
{
	static char data[CHUNK];
	ssize_t n = read(*fd, data, sizeof data);

	if (n > 0)
		send_frame(type, data, n);
	if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
		return n > 0;
	close(*fd);
	*fd = -1;
	return 0;
}

/* What the command wrote before it ended; a daemon that it left behind may hold the pipes open for ever. */
static void drain(struct streams *s)
{
	if (s->out >= 0) {
		fcntl(s->out, F_SETFL, O_NONBLOCK);
		while (relay(&s->out, TO_HOST_STDOUT))
			;
	}
	if (s->err >= 0) {
		fcntl(s->err, F_SETFL, O_NONBLOCK);
		while (relay(&s->err, TO_HOST_STDERR))
			;
	}
}

/* Reaps everything, as PID 1 must; returns 1 with the status when the command itself has ended. */
static int reap(int signals, pid_t command, int32_t *status)
{
	struct signalfd_siginfo info;
	int ended = 0, wait_status;
	pid_t pid;

	if (read(signals, &info, sizeof info) < 0)
		return 0;
	while ((pid = waitpid(-1, &wait_status, WNOHANG)) > 0)
		if (pid == command) {
			*status = wait_status;
			ended = 1;
		}
	return ended;
}

static int32_t supervise(struct streams *s, pid_t command, int signals)
{
	int32_t status = 0;

	for (;;) {
		struct pollfd fds[] = {
			{ .fd = signals, .events = POLLIN },
			{ .fd = host, .events = POLLIN },
			{ .fd = s->out, .events = POLLIN },
			{ .fd = s->err, .events = POLLIN },
			{ .fd = input.left ? s->in : -1, .events = POLLOUT },
		};
		if (poll(fds, 5, -1) < 0)
			continue;
		if (fds[4].revents)
			feed_stdin(s->in);
		if (fds[1].revents)
			read_frames(&s->in, command);
		if (fds[2].revents)
			relay(&s->out, TO_HOST_STDOUT);
		if (fds[3].revents)
			relay(&s->err, TO_HOST_STDERR);
		if (fds[0].revents && reap(signals, command, &status)) {
			drain(s);
			return status;
		}
	}
}

static void set_up(void)
{
	umask(0);
	make_overlay();
	if (job.tmp)
		mount_at("tmpfs", NEW_ROOT "/tmp", 0, "mode=1777,size=90%");
	mount_writable();
	if (booted && !access("/lib/modules", F_OK))
		bind_mount("/lib/modules");
	enter_overlay();
	mount_kernel_filesystems();
	sethostname(job.hostname, strlen(job.hostname));
	bring_up_loopback();
	raise_limits();
	umask(022);
}

int main(int argc, char **argv)
{
	struct streams s;
	sigset_t set;

	if (argc == 3)
		open_port(argv[1]);
	else
		open_tty();
	const char *path = argc == 3 ? argv[2] : getenv("LAB_JOB");
	if (!path)
		fail("no LAB_JOB on the kernel command line");
	read_job(path);
	set_up();

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	int signals = signalfd(-1, &set, SFD_CLOEXEC);
	open_streams(&s);
	pid_t command = fork();
	if (command < 0)
		fail("fork");
	if (!command) {
		signal(SIGPIPE, SIG_DFL);
		run_command(&s);
	}
	for (int fd = 0; fd < 3; fd++)
		close(s.child[fd]);
	send_frame(TO_HOST_READY, NULL, 0);
	int32_t status = supervise(&s, command, signals);
	if (!booted)
		kill(-1, SIGKILL);
	finish(TO_HOST_STATUS, &status, sizeof status);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * sandbox.c - see sandbox.h.
 */
#include "cli/run/sandbox.h"

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>

#include "cli/cli.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
#define UNDER_SANITIZER 1 /* it looks for leaks by ptrace */
#endif
#endif
#if defined(UNDER_SANITIZER) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define DEFAULT_MODE SANDBOX_OFF
#else
#define DEFAULT_MODE SANDBOX_AUTO
#endif

static bool confined;
static unsigned allowed; /* enum sandbox_need */

bool sandbox_mode_of(const char *text, enum sandbox_mode *out) {
    static const char *const names[] = {
        [SANDBOX_AUTO] = "auto", [SANDBOX_ON] = "on", [SANDBOX_OFF] = "off"};
    *out = DEFAULT_MODE;
    if (text == NULL)
        return true;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(text, names[i]) == 0) {
            *out = (enum sandbox_mode)i;
            return true;
        }
    return false;
}

unsigned sandbox_needs(const config *c) {
    unsigned needs = 0;
    for (size_t i = 0; i < c->flow_count; i++) {
        const char *type = c->flows[i].type;
        if (type == NULL || strcmp(type, "exec") == 0 || strcmp(type, "plugin") == 0)
            needs |= SANDBOX_PROGRAMS;
        else if (strcmp(type, "postgres") == 0)
            needs |= SANDBOX_KEYS;
    }
    return needs;
}

bool sandbox_allows(unsigned needs) {
    return !confined || (needs & ~allowed) == 0;
}

#if PAWL_WITH_SECCOMP

#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>

/* What is refused with EPERM. Names, since a machine has only some of them. */
static const struct {
    const char *call;
    unsigned unless; /* enum sandbox_need */
} refused[] = {
    /* another program in the place of this one */
    {"execve", SANDBOX_PROGRAMS},
    {"execveat", SANDBOX_PROGRAMS},
    /* other processes */
    {"ptrace", 0},
    {"process_vm_readv", 0},
    {"process_vm_writev", 0},
    {"pidfd_getfd", 0},
    {"kcmp", 0},
    /* mounts and namespaces */
    {"mount", 0},
    {"umount", 0},
    {"umount2", 0},
    {"pivot_root", 0},
    {"move_mount", 0},
    {"open_tree", 0},
    {"mount_setattr", 0},
    {"fsopen", 0},
    {"fsconfig", 0},
    {"fsmount", 0},
    {"fspick", 0},
    {"chroot", 0},
    {"unshare", 0},
    {"setns", 0},
    {"open_by_handle_at", 0},
    {"fanotify_init", 0},
    {"quotactl", 0},
    {"quotactl_fd", 0},
    /* the kernel and the machine */
    {"init_module", 0},
    {"finit_module", 0},
    {"delete_module", 0},
    {"create_module", 0},
    {"kexec_load", 0},
    {"kexec_file_load", 0},
    {"bpf", 0},
    {"perf_event_open", 0},
    {"userfaultfd", 0},
    {"lookup_dcookie", 0},
    {"reboot", 0},
    {"swapon", 0},
    {"swapoff", 0},
    {"acct", 0},
    {"nfsservctl", 0},
    {"syslog", 0}, /* the kernel's buffer; not the C library's function */
    {"iopl", 0},
    {"ioperm", 0},
    {"modify_ldt", 0},
    {"vm86", 0},
    {"settimeofday", 0},
    {"stime", 0},
    {"clock_settime", 0},
    {"clock_settime64", 0},
    {"sethostname", 0},
    {"setdomainname", 0},
    {"vhangup", 0},
    {"uselib", 0},
    {"migrate_pages", 0},
    {"move_pages", 0},
    /* the kernel's keys */
    {"add_key", SANDBOX_KEYS},
    {"request_key", SANDBOX_KEYS},
    {"keyctl", SANDBOX_KEYS},
};

/* Namespaces by way of clone() too. The flags of clone3() are in memory, which a filter can't read:
 * it is said to be missing, and the C library takes clone(). Input can't be put into a terminal. */
static int refuse_by_argument(scmp_filter_ctx f) {
    static const unsigned namespaces[] = {CLONE_NEWNS,  CLONE_NEWCGROUP, CLONE_NEWUTS,
                                          CLONE_NEWIPC, CLONE_NEWUSER,   CLONE_NEWPID,
                                          CLONE_NEWNET};
    int rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    for (size_t i = 0; rc == 0 && i < sizeof namespaces / sizeof namespaces[0]; i++)
        rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                              SCMP_A0(SCMP_CMP_MASKED_EQ, namespaces[i], namespaces[i]));
    if (rc == 0)
        rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1,
                              SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, TIOCSTI));
    return rc;
}

/* 0 or a negative errno. It sets no_new_privs as well. */
static int enter(unsigned needs) {
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_ALLOW);
    if (f == NULL)
        return -ENOMEM;
    /* Calls of another architecture (32 bits) would go round the filter. */
    int rc = seccomp_attr_set(f, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(EPERM));
    for (size_t i = 0; rc == 0 && i < sizeof refused / sizeof refused[0]; i++) {
        int number = seccomp_syscall_resolve_name(refused[i].call);
        if (number == __NR_SCMP_ERROR || (refused[i].unless & needs) != 0)
            continue;
        rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), number, 0);
    }
    if (rc == 0)
        rc = refuse_by_argument(f);
    if (rc == 0)
        rc = seccomp_load(f);
    seccomp_release(f);
    return rc;
}

#else

static int enter(unsigned needs) {
    (void)needs;
    return -ENOTSUP;
}

#endif

int sandbox_enter(enum sandbox_mode mode, unsigned needs) {
    if (mode == SANDBOX_OFF)
        return 0;
    /* Passwords and the log's key are in memory: no core file, no reading by ptrace or /proc, by
     * other processes of the same user either. A program that is run gets it back. */
    (void)prctl(PR_SET_DUMPABLE, 0);
    if (mode == SANDBOX_AUTO && (!PAWL_WITH_SECCOMP || (needs & SANDBOX_PROGRAMS) != 0))
        return 0;
    int rc = enter(needs);
    if (rc == 0) {
        confined = true;
        allowed = needs;
        return 0;
    }
    if (rc == -ENOTSUP)
        cli_error("--sandbox on: this build has no libseccomp, so system calls can't be given up");
    else
        cli_error("the sandbox: system calls can't be given up: %s%s", strerror(-rc),
                  mode == SANDBOX_AUTO ? "; it goes on without" : "");
    return mode == SANDBOX_ON ? -1 : 0;
}

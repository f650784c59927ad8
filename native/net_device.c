// Moves a network device of the host into the container's network namespace, by rtnetlink(7).
//
// A move takes the addresses off a device, since they belong to its namespace. So those are read
// before, and given to it again afterwards: all that an administrator has set for the world (of
// global scope, for ever), none that the kernel or a DHCP client has found out here.
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mounts.h"
#include "steps.h"
#include "text.h"

enum { MESSAGE_SIZE = 512, ADDRESSES = 64, INDEX_TRIES = 1024 };

struct message {
    _Alignas(struct nlmsghdr) char bytes[MESSAGE_SIZE];
};

static struct nlmsghdr *header_of(struct message *message)
{
    return (struct nlmsghdr *)message->bytes;
}

static void *begin(struct message *message, int type, int flags, size_t body_size)
{
    memset(message, 0, sizeof *message);
    *header_of(message) = (struct nlmsghdr){
        .nlmsg_len = (uint32_t)NLMSG_LENGTH(body_size),
        .nlmsg_type = (uint16_t)type,
        .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags),
    };
    return NLMSG_DATA(header_of(message));
}

// Adds an attribute; one that doesn't fit makes the message invalid, so that it is refused.
static void add(struct message *message, int type, const void *data, size_t size)
{
    struct nlmsghdr *header = header_of(message);
    size_t at = NLMSG_ALIGN(header->nlmsg_len);
    if (at + RTA_SPACE(size) > sizeof message->bytes) {
        header->nlmsg_type = NLMSG_NOOP;
        return;
    }
    struct rtattr *attribute = (struct rtattr *)(message->bytes + at);
    attribute->rta_type = (uint16_t)type;
    attribute->rta_len = (uint16_t)RTA_LENGTH(size);
    memcpy(RTA_DATA(attribute), data, size);
    header->nlmsg_len = (uint32_t)(at + RTA_ALIGN(attribute->rta_len));
}

// Sends a message and waits for the kernel's word about it. Returns 0, or -1 with errno.
static int transact(int netlink, struct message *message)
{
    _Alignas(struct nlmsghdr) char answer[8192];
    header_of(message)->nlmsg_flags |= NLM_F_ACK;
    if (send(netlink, message->bytes, header_of(message)->nlmsg_len, 0) < 0)
        return -1;
    ssize_t size = recv(netlink, answer, sizeof answer, 0);
    const struct nlmsghdr *header = (const struct nlmsghdr *)answer;
    if (size < (ssize_t)NLMSG_LENGTH(sizeof(struct nlmsgerr)) ||
        header->nlmsg_type != NLMSG_ERROR) {
        if (size >= 0)
            errno = EPROTO;
        return -1;
    }
    const struct nlmsgerr *error = NLMSG_DATA(header);
    errno = -error->error;
    return error->error ? -1 : 0;
}

static bool is_kept(int attribute)
{
    return attribute == IFA_ADDRESS || attribute == IFA_LOCAL || attribute == IFA_BROADCAST ||
           attribute == IFA_FLAGS || attribute == IFA_RT_PRIORITY;
}

// Turns the kernel's description of an address into the request that makes it again.
static void remember(struct message *address, const struct nlmsghdr *found)
{
    const struct ifaddrmsg *body = NLMSG_DATA(found);
    struct ifaddrmsg *copy = begin(address, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, sizeof *copy);
    *copy = *body;
    unsigned rest = (unsigned)IFA_PAYLOAD(found);
    for (const struct rtattr *attribute = IFA_RTA(body); RTA_OK(attribute, rest);
         attribute = RTA_NEXT(attribute, rest)) {
        if (is_kept(attribute->rta_type))
            add(address, attribute->rta_type, RTA_DATA(attribute), RTA_PAYLOAD(attribute));
    }
}

// Reads the addresses of a device. Returns their number, or -1 with errno.
static int read_addresses(int netlink, int index, struct message addresses[ADDRESSES])
{
    _Alignas(struct nlmsghdr) char answer[16384];
    struct message request;
    int count = 0;
    begin(&request, RTM_GETADDR, NLM_F_DUMP, sizeof(struct ifaddrmsg));
    if (send(netlink, request.bytes, header_of(&request)->nlmsg_len, 0) < 0)
        return -1;
    for (;;) {
        ssize_t size = recv(netlink, answer, sizeof answer, 0);
        if (size < 0)
            return -1;
        unsigned rest = (unsigned)size;
        for (const struct nlmsghdr *found = (const struct nlmsghdr *)answer; NLMSG_OK(found, rest);
             found = NLMSG_NEXT(found, rest)) {
            const struct ifaddrmsg *body = NLMSG_DATA(found);
            if (found->nlmsg_type == NLMSG_DONE)
                return count;
            if (found->nlmsg_type == NLMSG_ERROR) {
                errno = EPROTO;
                return -1;
            }
            if (body->ifa_index != (unsigned)index || body->ifa_scope != RT_SCOPE_UNIVERSE ||
                !(body->ifa_flags & IFA_F_PERMANENT))
                continue;
            if (count == ADDRESSES) {
                errno = E2BIG;
                return -1;
            }
            remember(&addresses[count++], found);
        }
    }
}

// Opens a netlink socket in a network namespace; HOST itself stays in its own.
static int open_netlink_in(struct run *run, int namespace)
{
    const char *own_path = "/proc/self/ns/net";
    cleanup_fd int own = open(own_path, O_RDONLY | O_CLOEXEC);
    if (own < 0)
        return fail(run, "open", own_path);
    if (setns(namespace, CLONE_NEWNET) < 0)
        return fail(run, "setns", NULL);
    cleanup_fd int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    int error = errno;
    if (setns(own, CLONE_NEWNET) < 0)
        return fail(run, "setns", own_path);
    errno = error;
    return netlink >= 0 ? take_fd(&netlink) : fail(run, "socket", NULL);
}

// Moves and renames a device in one, so that neither name is in the way of another device. Its
// index there is the same as here, or the next that is free (chosen by us since 5.13: the kernel
// wouldn't tell). Returns the index, or -1 with errno.
static int move(int netlink, int index, const char *name, int namespace)
{
    for (int wanted = index; wanted < index + INDEX_TRIES; wanted++) {
        struct message request;
        struct ifinfomsg *body = begin(&request, RTM_NEWLINK, 0, sizeof *body);
        body->ifi_index = index;
        add(&request, IFLA_IFNAME, name, strlen(name) + 1);
        add(&request, IFLA_NET_NS_FD, &namespace, sizeof namespace);
        add(&request, IFLA_NEW_IFINDEX, &wanted, sizeof wanted);
        if (!transact(netlink, &request))
            return wanted;
        if (errno != EBUSY)
            break;
    }
    return -1;
}

static int bring_up(int netlink, int index)
{
    struct message request;
    struct ifinfomsg *body = begin(&request, RTM_NEWLINK, 0, sizeof *body);
    body->ifi_index = index;
    body->ifi_flags = body->ifi_change = IFF_UP;
    return transact(netlink, &request);
}

static int find(int netlink, const char *name)
{
    struct ifreq request = {0};
    if (strlen(name) >= sizeof request.ifr_name) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(request.ifr_name, name);
    return ioctl(netlink, SIOCGIFINDEX, &request) < 0 ? -1 : request.ifr_ifindex;
}

int step_net_device(struct run *run, const struct step *step)
{
    const char *name = string_argument(step, 0);
    const char *path = string_argument(step, 2);
    char childs[64];
    struct text text = TEXT(childs);
    text_add(&text, "/proc/");
    text_add_number(&text, (uint64_t)run->child);
    text_add(&text, "/ns/net");
    path = *path ? path : childs;
    cleanup_fd int namespace = open(path, O_RDONLY | O_CLOEXEC);
    if (namespace < 0)
        return fail(run, "open", path);
    cleanup_fd int here = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (here < 0)
        return fail(run, "socket", NULL);
    cleanup_fd int there = open_netlink_in(run, namespace);
    if (there < 0)
        return -1;

    int index = find(here, name);
    if (index < 0)
        return fail(run, "ioctl", name);
    struct message addresses[ADDRESSES];
    int count = read_addresses(here, index, addresses);
    if (count < 0)
        return fail_because(run, "recv", name, errno == E2BIG ? "more than 64 addresses" : "");
    index = move(here, index, string_argument(step, 1), namespace);
    if (index < 0)
        return fail(run, "RTM_NEWLINK", name);
    for (int i = 0; i < count; i++) {
        struct ifaddrmsg *body = NLMSG_DATA(header_of(&addresses[i]));
        body->ifa_index = (unsigned)index;
        if (transact(there, &addresses[i]))
            return fail(run, "RTM_NEWADDR", name);
    }
    return bring_up(there, index) ? fail_because(run, "RTM_NEWLINK", name, "IFF_UP") : 0;
}

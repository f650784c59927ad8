# What a container sees of itself, in nothing but sh and /proc; `make run` runs it in one.

say() { printf '%-14s %s\n' "$1" "$2"; }

say hostname "$(cat /proc/sys/kernel/hostname)"
say 'process id' "$$ (PID 1 here is: $(tr '\0' ' ' </proc/1/cmdline | cut -c 1-24))"

processes=
for directory in /proc/[0-9]*; do
  processes="$processes ${directory#/proc/}"
done
say processes "${processes# }"

say root "$(echo /*)"
say /home "$(ls -A /home | wc -l) entries"
say 'network' "$(sed -n 's/^ *\([^:]*\):.*/\1/p' /proc/net/dev | tr '\n' ' ')"

# cgroups: version 2 has one directory for all, version 1 one for each controller.
first() { for file; do [ ! -r "$file" ] || { cat "$file"; return; }; done; echo none; }
cd /sys/fs/cgroup
say 'memory limit' "$(first memory.max memory/memory.limit_in_bytes) (bytes)"
cpu=$(first cpu.max cpu/cpu.cfs_quota_us cpu,cpuacct/cpu.cfs_quota_us)
say 'cpu limit' "${cpu%% *} (us in each 100000 us, of $(grep -c ^processor /proc/cpuinfo) cores)"

names='chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable
  net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio
  sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time
  sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog
  wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore'
mask=$((0x$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)))
held=
for name in $names; do
  [ $((mask & 1)) = 0 ] || held="$held $name"
  mask=$((mask >> 1))
done
say capabilities "${held# }"
say seccomp "$(sed -n 's/^Seccomp_filters:[[:space:]]*//p' /proc/self/status) filter(s)"

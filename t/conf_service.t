#!/usr/bin/perl

# Copyright (C) nginx-ims contributors

# conf/systemd and conf/logrotate: understood by the programs that read them;
# users and folders come out as the daemon needs them; a log that was rotated
# is written anew.

###############################################################################

use warnings;
use strict;

use Test::More;

use File::Basename;
use File::Copy;
use File::Temp qw/ tempdir /;
use FindBin;
use Time::HiRes qw/ sleep /;
use lib "$FindBin::Bin/lib";

use ImsPool;

select STDERR; $| = 1;
select STDOUT; $| = 1;

###############################################################################

my $conf = "$FindBin::Bin/../conf";
my $dir = tempdir('ims-conf-XXXXXXXX', TMPDIR => 1, CLEANUP => 1);

sub slurp {
	open my $f, '<', $_[0] or die "$_[0]: $!";
	local $/;
	return scalar <$f>;
}

sub spit {
	open my $f, '>', $_[0] or die "$_[0]: $!";
	print $f $_[1];
	close $f or die $!;
}

# status and output, by a shell
sub run {
	my $out = `$_[0] 2>&1`;
	return ($? >> 8) . ($out eq '' ? '' : ": $out");
}

# units: the programs are not installed here, and stand in for themselves

my @units = map { basename($_) } glob "$conf/systemd/*.{service,socket,timer}";
cmp_ok(scalar @units, '>=', 4, 'units found');

for my $unit (@units) {
	my $text = slurp("$conf/systemd/$unit");
	$text =~ s{/usr/local/s?bin/[\w-]+}{/bin/true}g;
	spit("$dir/$unit", $text);
}

is(run("cd $dir && systemd-analyze verify --man=no @units"), '0',
	'units are understood');

my $service = slurp("$conf/systemd/ims-poolmgr.service");
my $help = `${\ ImsPool->mgr()} --help`;

for my $line ($service =~ /^ExecStart=(.*)/mg) {
	for my $option ($line =~ /(--[\w-]+)/g) {
		like($help, qr/$option\b/, "$option of ExecStart");
	}
}

my ($path) = $service =~ /--socket (\S+)/;
like(slurp("$conf/systemd/ims-poolmgr.socket"), qr/^ListenStream=$path$/m,
	'one socket for both');

# how much is left to a daemon that was broken into: 0 is none, 10 is all

my $report = run("cd $dir && systemd-analyze security --offline=true"
	. ' --threshold=25 ims-poolmgr.service');
like($report, qr/^0:/, 'hardened') or diag($report);

# users and folders, in a root of their own

mkdir "$dir/root";
mkdir "$dir/root/etc";
spit("$dir/root/etc/passwd",
	"root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/false\n");
spit("$dir/root/etc/group", "root:x:0:\nwww-data:x:33:\n");

SKIP: {
	skip 'only root makes users', 5 if $> != 0;

	my $out = run("systemd-sysusers --root=$dir/root"
		. " $conf/systemd/sysusers.conf");
	like($out, qr/^0/, 'users') or diag($out);
	my ($uid) = slurp("$dir/root/etc/passwd") =~ /^ims-pool:x:(\d+):/m;
	my ($gid, $members) = slurp("$dir/root/etc/group")
		=~ /^ims:x:(\d+):(.*)$/m;
	is(join(' ', sort split /,/, $members // ''), 'ims-pool www-data',
		'members of ims');

	$out = run("systemd-tmpfiles --root=$dir/root --create"
		. " $conf/systemd/tmpfiles.conf");
	like($out, qr/^0/, 'folders') or diag($out);
	my @st = stat "$dir/root/var/lib/ims-pool";
	is(sprintf('%o', $st[2] & 07777), '750', 'of the pool');
	is("$st[4] $st[5]", "$uid $gid", 'and whose');
}

# the history log: rotated, and written anew after HUP

my $p = ImsPool->new();
$p->pool('web', 5);
$p->cmd($p->acquire('web', 'u1'));

my $log = $p->dir() . '/history.log';
my $pid = $p->pid();
my $text = slurp("$conf/logrotate/ims-pool");

ok($text =~ s{^/var/lib/ims-pool/pool/history\.log}{$log}m, 'names the log');
ok($text =~ s{systemctl kill .*}{kill -HUP $pid}, 'tells the daemon');
$text =~ s/ims-pool ims$/getpwuid($>) . ' ' . getgrgid($))/meg;
spit("$dir/logrotate", $text);
chmod 0644, "$dir/logrotate";

# logrotate distrusts a folder that others may write in
my $out = run("logrotate -v -f -s $dir/state $dir/logrotate");
like($out, qr/^0/, 'logrotate') or diag($out);
ok(-s "$log.1", 'the old one is kept');

my $found;
for my $n (1 .. 200) {
	$p->cmd($p->acquire('web', "n$n"));
	last if $found = -s $log;
	sleep 0.05;
}
ok($found, 'the new one is written');
is(sprintf('%04o', (stat $log)[2] & 07777), '0640', 'as it should be');

$p->stop();
unlike($p->log(), qr/\[(?:alert|emerg)\]|runtime error|AddressSanitizer/,
	'no alerts');

done_testing();

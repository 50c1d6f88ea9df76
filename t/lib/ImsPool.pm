package ImsPool;

# Copyright (C) nginx-ims contributors
#
# Starts the pool manager in a directory of its own, speaks RESP to it, and
# stops it by its process id.
#
#     my $p = ImsPool->new();                # started
#     my $c = $p->connect();
#     $c->cmd('PING')                        "+PONG"
#     $c->cmd('NIX')                         "-ERR unknown command"
#
# Replies: "+text" and "-text" as they come, numbers as numbers, bulk strings
# as they are, arrays as references; undef when the connection was closed.

use warnings;
use strict;

use Cwd qw/ abs_path /;
use File::Basename;
use File::Temp qw/ tempdir /;
use IO::Select;
use IO::Socket::UNIX;
use POSIX qw/ :sys_wait_h /;
use Time::HiRes qw/ time sleep clock_gettime /;

use constant CLOCK_BOOTTIME => 7;
use constant TIMEOUT => 20;

my $top = abs_path(dirname(__FILE__) . '/../..');
my $build = $ENV{IMS_BUILD} || "$top/build";


sub new {
	my ($class, %o) = @_;

	my $self = bless {
		dir => tempdir('ims-pool-XXXXXXXX', TMPDIR => 1, CLEANUP => 1),
		args => $o{args} || [],
		owner => $$,
		nonce => 0,
	}, $class;

	chmod 0755, $self->{dir};

	$self->start() unless $o{idle};

	return $self;
}

sub dir { return $_[0]->{dir} . '/pool'; }
sub socket { return $_[0]->{dir} . '/sock'; }
sub pid { return $_[0]->{pid}; }
sub tmp { return $_[0]->{dir}; }
sub mgr { return "$build/ims-poolmgr"; }
sub ctl { return "$build/ims-poolctl"; }

# the start that should succeed
sub start {
	my ($self, @args) = @_;

	$self->spawn(@args);

	for (1 .. TIMEOUT * 50) {
		my $log = $self->log();
		return $self if $log =~ /ready on/;

		if (waitpid($self->{pid}, WNOHANG)) {
			delete $self->{pid};
			die "ims-poolmgr does not start:\n$log\n";
		}

		sleep 0.02;
	}

	die "ims-poolmgr is not ready:\n" . $self->log() . "\n";
}

# in the background, whatever becomes of it; args after those of new()
sub spawn {
	my ($self, @args) = @_;

	rename "$self->{dir}/log", "$self->{dir}/log.old";

	my $pid = fork();
	die "fork: $!" unless defined $pid;

	if ($pid == 0) {
		open STDERR, '>>', "$self->{dir}/log";
		open STDOUT, '>&', \*STDERR;

		my %has = map { $_ => 1 } @{$self->{args}}, @args;
		my @user = $> == 0 && !$has{'--user'} ? ('--user', 'root') : ();

		exec $self->mgr(), '--dir', $self->dir(), '--socket',
			$self->socket(), '--volatile', '--log-level', 'info',
			@user, @{$self->{args}}, @args
			or POSIX::_exit(127);
	}

	$self->{pid} = $pid;

	return $pid;
}

# the exit status of one that should not start, and its log
sub refused {
	my ($self, @args) = @_;

	my $pid = $self->{pid};
	my $new = $self->spawn(@args);

	waitpid($new, 0);

	my $status = $? >> 8;
	$self->{pid} = $pid;

	return ($status, $self->log());
}

# clean, or with another signal; returns waitpid's status
sub stop {
	my ($self, $signal) = @_;

	my $pid = delete $self->{pid} or return;

	kill $signal || 'TERM', $pid;

	for (1 .. TIMEOUT * 100) {
		return $? if waitpid($pid, WNOHANG) == $pid;
		sleep 0.01;
	}

	kill 'KILL', $pid;
	waitpid($pid, 0);

	return $?;
}

sub log {
	my ($self) = @_;

	open my $f, '<', "$self->{dir}/log" or return '';
	local $/;
	my $log = <$f>;

	return defined $log ? $log : '';
}

sub connect {
	my ($self) = @_;

	my $s = IO::Socket::UNIX->new(Peer => $self->socket()) or return;

	return bless {
		s => $s, buf => '', sel => IO::Select->new($s)
	}, 'ImsPool::Conn';
}

# one command on a connection that is kept
sub cmd {
	my ($self, @args) = @_;

	$self->{conn} = $self->connect()
		unless $self->{conn} && $self->{conn_pid} == $self->{pid};
	$self->{conn_pid} = $self->{pid};

	return $self->{conn}->cmd(@args);
}

# a pool and its identities: sip:NAME-0001@ims.example ...
sub pool {
	my ($self, $name, $n, @options) = @_;

	my $r = $self->cmd('POOL', 'CREATE', $name, 'ims.example', @options);
	die "POOL CREATE: $r" unless $r eq '+OK';

	return unless $n;

	my $no = $self->cmd('IMPORT', 'BEGIN', $name);
	die "IMPORT BEGIN: $no" if $no =~ /^-/;

	for (my $i = 1; $i <= $n; $i += 500) {
		my $last = $i + 499 < $n ? $i + 499 : $n;
		my $rows = join '', map {
			sprintf "%s-%04d\@ims.example\t%s %d\tsip:%s-%04d\@ims.example\n",
				$name, $_, $name, $_, $name, $_
		} $i .. $last;

		$r = $self->cmd('IMPORT', 'ROWS', $no, $i, $rows);
		die "IMPORT ROWS: $r" if $r =~ /^-/;
	}

	$r = $self->cmd('IMPORT', 'END', $no);
	die "IMPORT END: $r" if $r ne $n;
}

# a role's secret
sub secret {
	my ($self, $role) = @_;

	open my $f, '<', $self->dir() . "/secrets/$role.secret" or die $!;
	my @lines = grep { !/^\s*(#|$)/ } <$f>;

	return (split ' ', $lines[0])[1];
}

sub deadline {
	my (undef, $seconds) = @_;

	return int((clock_gettime(CLOCK_BOOTTIME) + ($seconds // 60)) * 1000);
}

sub nonce {
	my ($self) = @_;

	return sprintf '%032x', ++$self->{nonce};
}

# arguments of the lease commands
sub acquire {
	my ($self, $pool, $user, $sid, %o) = @_;

	return ('ACQUIRE', $pool, $o{realm} // 'site', $user,
		$sid // sprintf('%016x', 1), $o{nonce} // $self->nonce(),
		$o{deadline} // $self->deadline());
}

sub renew {
	my ($self, $pool, $user, $lease, $sid, %o) = @_;

	return ('RENEW', $pool, $o{realm} // 'site', $user, $lease,
		$sid // sprintf('%016x', 1), $o{nonce} // $self->nonce(),
		$o{deadline} // $self->deadline());
}

sub release {
	my ($self, @args) = @_;

	my @cmd = $self->renew(@args);
	$cmd[0] = 'RELEASE';

	return @cmd;
}

# a flat reply as a hash; "impu" as an array
sub hash {
	my (undef, $r) = @_;

	return { error => $r } unless ref $r;

	my %h;
	my @r = @$r;

	while (my ($k, $v) = splice @r, 0, 2) {
		if ($k eq 'impu') {
			push @{$h{$k}}, $v;
		} else {
			$h{$k} = $v;
		}
	}

	return \%h;
}

# ims-poolctl: exit status, standard output, standard error
sub run_ctl {
	my ($self, @args) = @_;

	my $out = "$self->{dir}/ctl.out";
	my $err = "$self->{dir}/ctl.err";

	my $pid = fork();
	die "fork: $!" unless defined $pid;

	if ($pid == 0) {
		open STDOUT, '>', $out;
		open STDERR, '>', $err;
		exec $self->ctl(), '-s', $self->socket(), @args
			or POSIX::_exit(127);
	}

	waitpid($pid, 0);

	my $status = $? >> 8;
	my @text;

	for my $file ($out, $err) {
		open my $f, '<', $file or die $!;
		local $/;
		push @text, scalar <$f> // '';
	}

	return ($status, @text);
}

sub DESTROY {
	my ($self) = @_;

	return unless $self->{owner} == $$;

	local ($?, $!);
	$self->stop();
}


package ImsPool::Conn;

use warnings;
use strict;

use Time::HiRes qw/ time /;


sub raw {
	my ($self, $bytes) = @_;

	local $SIG{PIPE} = 'IGNORE';
	my $off = 0;

	while ($off < length $bytes) {
		my $n = syswrite $self->{s}, $bytes, length($bytes) - $off, $off;
		return 0 unless defined $n;
		$off += $n;
	}

	return 1;
}

sub encode {
	my (undef, @args) = @_;

	return join '', '*' . @args . "\r\n",
		map { '$' . length($_) . "\r\n$_\r\n" } @args;
}

sub send {
	my ($self, @args) = @_;

	return $self->raw($self->encode(@args));
}

sub cmd {
	my ($self, @args) = @_;

	$self->send(@args) or return;

	return $self->recv();
}

sub recv {
	my ($self, $timeout) = @_;

	my $line = $self->_line($timeout);

	return unless defined $line;

	my ($type, $text) = $line =~ /^(.)(.*)$/s;

	return $line if $type eq '+' || $type eq '-';
	return $text + 0 if $type eq ':';
	return $self->_bytes($text, $timeout) if $type eq '$';
	return [ map { $self->recv($timeout) } 1 .. $text ] if $type eq '*';

	die "not RESP: $line";
}

# nothing more, and the connection is closed
sub closed {
	my ($self, $timeout) = @_;

	return 0 if length $self->{buf};

	return !$self->_more($timeout) && $self->{eof} ? 1 : 0;
}

sub shut {
	my ($self) = @_;

	shutdown $self->{s}, 1;
}

sub _more {
	my ($self, $timeout) = @_;

	return 0 if $self->{eof};
	return 0 unless $self->{sel}->can_read($timeout // 20);

	my $n = sysread $self->{s}, $self->{buf}, 65536, length $self->{buf};

	$self->{eof} = 1 unless $n;

	return $n ? 1 : 0;
}

sub _line {
	my ($self, $timeout) = @_;

	while ($self->{buf} !~ /\r\n/) {
		return unless $self->_more($timeout);
	}

	$self->{buf} =~ s/^(.*?)\r\n//s;

	return $1;
}

sub _bytes {
	my ($self, $n, $timeout) = @_;

	return if $n < 0;

	while (length $self->{buf} < $n + 2) {
		return unless $self->_more($timeout);
	}

	my $bytes = substr $self->{buf}, 0, $n;
	substr $self->{buf}, 0, $n + 2, '';

	return $bytes;
}


1;

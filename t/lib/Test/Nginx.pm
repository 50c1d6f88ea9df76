package Test::Nginx;

# A small harness with the method names of nginx's own test library, so that
# the tests here run with either: "prove t" takes this one, and
# "prove -I NGINX-TESTS/lib t" the real one. One object a test file: it owns
# a scratch directory, one nginx and any number of daemons.
#
# What it adds to the real one: files are found from any directory, and the
# closing checks are done before Test::More counts, even if something else
# still holds the object. What is beyond the real one's methods lives in
# Ims.pm and its companions.

use strict;
use warnings;

use Exporter qw/ import /;
use File::Path qw/ remove_tree /;
use File::Spec;
use File::Temp qw/ tempdir /;
use IO::Socket::INET;
use POSIX qw/ WNOHANG /;
use Scalar::Util qw/ weaken /;
use Test::More ();
use Time::HiRes qw/ sleep time /;

our @EXPORT = qw/ http http_get http_head port log_in log_out /;
our @EXPORT_OK = qw/ http_start http_end http_content /;

our $NGINX = $ENV{TEST_NGINX_BINARY} // '../nginx/objs/nginx';

use constant TIMEOUT => 8;

# modules that nginx has only if asked to; all others only if not refused
my %opt_in = map { $_ => 1 } qw/
    http_ssl http_v2 http_v3 http_realip http_addition http_sub http_dav
    http_gunzip http_gzip_static http_auth_request http_secure_link
    http_slice http_stub_status http_random_index mail stream stream_ssl
    stream_realip threads debug compat
/;

my %ports;
my @objects;


sub new {
    my ($class) = @_;

    Test::More::BAIL_OUT("no nginx to test: $NGINX is not executable")
        unless -x $NGINX;

    my $self = bless {
        dir => tempdir('nginx-test-XXXXXXXXXX', TMPDIR => 1),
        owner => $$, daemons => [], master => undef, alerts_todo => 0,
    }, $class;

    push @objects, $self;
    weaken($objects[-1]);

    return $self;
}


# a test that dies lets go of its objects before END sees its status

my $died;

$SIG{__DIE__} = sub { $died = 1 if defined $^S and !$^S };


sub DESTROY {
    my ($self) = @_;

    $self->_finish();
}


# runs before the END of Test::Builder, which was compiled earlier

END {
    my $status = $?;

    for my $t (@objects) {
        $t->_finish() if $t;
    }

    $? = $status;
}


sub _finish {
    my ($self) = @_;

    local ($?, $@, $!);

    return if $self->{owner} != $$ or $self->{finished}++;

    $self->stop();
    $self->stop_daemons();

    my $log = $self->{dir} . '/error.log';
    my $text = -e $log ? $self->read_file('error.log') : '';

    if (Test::More->builder->expected_tests) {
        local $Test::Nginx::TODO = $self->{alerts_todo} ? 'alerts' : undef;

        my @alerts = grep { /\[(?:alert|emerg)\]/ } split /\n/, $text;

        Test::More::is(join("\n", @alerts), '', 'no alerts');
    }

    if (Test::More->builder->expected_tests) {
        local $Test::Nginx::TODO;

        my @faults = grep { /Sanitizer|runtime error:/ } split /\n/, $text;

        Test::More::is(join("\n", @faults), '', 'no sanitizer errors');
    }

    if ($ENV{TEST_NGINX_CATLOG}) {
        print STDERR $text;

    } elsif ($died or !Test::More->builder->is_passing()) {
        _tell_of_log($text);
    }

    if ($ENV{TEST_NGINX_LEAVE}) {
        Test::More::diag("left in $self->{dir}");

    } else {
        remove_tree($self->{dir}, { safe => 0, error => \my $ignored });
    }
}


# a test that fails once in a hundred runs fails where nobody can look into its
# directory: what nginx said last is part of what it tells

sub _tell_of_log {
    my ($text) = @_;

    my @lines = grep { /\[(?:notice|warn|error|crit|alert|emerg)\]/ }
                split /\n/, $text;

    splice @lines, 0, @lines - 25 if @lines > 25;

    Test::More::diag("$0: end of error.log:\n", map { substr($_, 0, 300) . "\n" }
                     @lines);
}


# what must be there, or the whole file is skipped

sub has {
    my ($self, @features) = @_;

    for my $name (@features) {
        $self->has_module($name) || $self->has_feature($name)
            or Test::More::plan(skip_all => "no $name available");
    }

    return $self;
}


sub has_daemon {
    my ($self, $name) = @_;

    for my $dir (File::Spec->path(), qw(/usr/sbin /sbin)) {
        return $self if -x "$dir/$name" && ! -d _;
    }

    Test::More::plan(skip_all => "$name not found");
}


sub has_module {
    my ($self, $name) = @_;

    my $built = $self->_built();

    (my $full = $name) =~ s/^(?!http|stream|mail|threads|debug|compat)/http_/;

    return $built =~ /--with-\Q$full\E(?:_module)?(?![\w])/
        if $opt_in{$full};

    return 0 if $name =~ /[^\w]/ && $built !~ /$name/;
    return $built !~ /--without-http(?![\w])/ if $name eq 'http';
    return 0 if $self->_known_feature($name);

    return $built !~ /--without-\Q$full\E_module/;
}


sub has_feature {
    my ($self, $name) = @_;

    my $test = $self->_known_feature($name) or return 0;

    return $test->() ? 1 : 0;
}


sub has_version {
    my ($self, $need) = @_;

    $self->_built() =~ m{nginx/([\d.]+)} or return 0;

    my @have = split /\./, $1;

    for my $n (split /\./, $need) {
        my $h = shift(@have) // 0;
        return $h > $n if $h != $n;
    }

    return 1;
}


sub _known_feature {
    my ($self, $name) = @_;

    my %known = (
        unix => sub { 1 },
        udp => sub { 1 },
        symlink => sub { 1 },
        socket_ssl => sub { eval { require IO::Socket::SSL; 1 } },
        socket_ssl_sni => sub {
            eval { require IO::Socket::SSL; IO::Socket::SSL->can_client_sni }
        },
    );

    return $known{$name};
}


sub _built {
    my ($self) = @_;

    return $self->{built} //= `$NGINX -V 2>&1`;
}


# the two closing checks are counted here, so a file names its own only

sub plan {
    my ($self, $tests) = @_;

    Test::More::plan(tests => $tests + 2);

    return $self;
}


sub todo_alerts {
    my ($self) = @_;

    $self->{alerts_todo} = 1;

    return $self;
}


sub run {
    my ($self, $conf) = @_;

    if (defined $conf) {
        open my $f, '<', $conf or die "open $conf: $!\n";
        local $/;
        $self->write_file_expand('nginx.conf', scalar <$f>);
    }

    my $pid = $self->_spawn($NGINX, $self->_args());

    $self->{master} = $pid;

    $self->waitforfile("$self->{dir}/nginx.pid", $pid)
        or die "nginx did not start: "
               . (eval { $self->read_file('error.log') } // '') . "\n";

    return $self;
}


sub try_run {
    my ($self, $reason) = @_;

    return $self if eval { open my $saved, '>&', \*STDERR or die;
                           open STDERR, '>', '/dev/null' or die;
                           my $ok = eval { $self->run(); 1 };
                           open STDERR, '>&', $saved or die;
                           $ok };

    $self->{master} = undef;
    $self->{finished} = 1 unless $ENV{TEST_NGINX_LEAVE};
    remove_tree($self->{dir}) unless $ENV{TEST_NGINX_LEAVE};

    Test::More::plan(skip_all => $reason);
}


sub _args {
    my ($self) = @_;

    my @args = ('-p', "$self->{dir}/", '-c', 'nginx.conf', '-e', 'error.log');

    # a configuration without %%TEST_GLOBALS%% gets its necessities so

    push @args, '-g', "pid $self->{dir}/nginx.pid; "
                      . "error_log $self->{dir}/error.log debug;"
        unless $self->{globals};

    return @args;
}


sub dump_config {
    my ($self) = @_;

    my @command = ($NGINX, '-T', $self->_args());
    my $quoted = join ' ', map { s/'/'\\''/gr =~ s/(.*)/'$1'/sr } @command;

    return `$quoted 2>&1`;
}


sub reload {
    my ($self) = @_;

    kill 'HUP', $self->_master_pid();

    return $self;
}


sub _master_pid {
    my ($self) = @_;

    my ($pid) = $self->read_file('nginx.pid') =~ /(\d+)/;

    return $pid;
}


sub stop {
    my ($self) = @_;

    my $pid = $self->{master} or return $self;

    kill 'QUIT', $pid;

    unless ($self->_gone($pid, 90)) {
        kill 'TERM', $pid;
        $self->_gone($pid, TIMEOUT) or kill 'KILL', $pid;
        waitpid $pid, 0;
    }

    $self->{master} = undef;

    return $self;
}


sub run_daemon {
    my ($self, $what, @args) = @_;

    push @{$self->{daemons}}, $self->_spawn($what, @args);

    return $self;
}


sub stop_daemons {
    my ($self) = @_;

    kill 'TERM', @{$self->{daemons}} if @{$self->{daemons}};

    while (my $pid = shift @{$self->{daemons}}) {
        next if $self->_gone($pid, 5);
        kill 'KILL', $pid;
        waitpid $pid, 0;
    }

    return $self;
}


sub _spawn {
    my ($self, $what, @args) = @_;

    my $pid = fork() // die "fork: $!\n";

    return $pid if $pid;

    if (ref $what) {
        $what->(@args);

    } else {
        no warnings 'exec';
        exec { $what } $what, @args;
        print STDERR "exec $what: $!\n";
    }

    # no END blocks and no destructors of the parent's objects here

    POSIX::_exit(0);
}


sub _gone {
    my ($self, $pid, $seconds) = @_;

    return _until($seconds, sub { waitpid($pid, WNOHANG) != 0 });
}


sub waitforfile {
    my ($self, $file, $pid) = @_;

    return _until(TIMEOUT, sub {
        return 1 if -s $file;
        die "pid $pid left before $file was there\n"
            if $pid && waitpid($pid, WNOHANG) != 0;
        return 0;
    });
}


sub waitforsocket {
    my ($self, $peer) = @_;

    return _until(TIMEOUT, sub {
        IO::Socket::INET->new(Proto => 'tcp', PeerAddr => $peer) ? 1 : 0;
    });
}


sub _until {
    my ($seconds, $test) = @_;

    my $end = time() + $seconds;

    while (1) {
        return 1 if $test->();
        return undef if time() > $end;
        sleep 0.05;
    }
}


sub testdir {
    my ($self) = @_;

    return $self->{dir};
}


sub read_file {
    my ($self, $name) = @_;

    open my $f, '<:raw', "$self->{dir}/$name" or die "open $name: $!\n";
    local $/;

    return scalar(<$f>) // '';
}


sub write_file {
    my ($self, $name, $content) = @_;

    open my $f, '>:raw', "$self->{dir}/$name" or die "create $name: $!\n";
    print $f $content or die "write $name: $!\n";
    close $f or die "write $name: $!\n";

    return $self;
}


sub write_file_expand {
    my ($self, $name, $content) = @_;

    my %text = (
        TEST_GLOBALS => sub { $self->test_globals() },
        TEST_GLOBALS_HTTP => sub { $self->test_globals_http() },
        TEST_GLOBALS_STREAM => sub { $ENV{TEST_NGINX_GLOBALS_STREAM} // '' },
        TESTDIR => sub { $self->{dir} },
    );

    # in one pass: what comes out of it is no nominal port any more

    $content =~ s/%%(\w+?)%%|127\.0\.0\.1:(8\d\d\d)/
        defined $2 ? '127.0.0.1:' . port($2)
        : $text{$1} ? $text{$1}->()
        : $1 =~ m{^PORT_(\d+)(_UDP)?$} ? port($1, udp => defined $2)
        : "%%$1%%"/gex;

    return $self->write_file($name, $content);
}


sub test_globals {
    my ($self) = @_;

    return $self->{globals} //= "pid $self->{dir}/nginx.pid;\n"
        . "error_log $self->{dir}/error.log debug;\n"
        . ($ENV{TEST_NGINX_GLOBALS} // '') . "\n";
}


sub test_globals_http {
    my ($self) = @_;

    my $d = $self->{dir};
    my $s = "root $d;\naccess_log $d/access.log;\n"
            . "client_body_temp_path $d/client_body_temp;\n";

    for my $kind (qw/ fastcgi proxy uwsgi scgi /) {
        $s .= "${kind}_temp_path $d/${kind}_temp;\n"
            if $self->has_module($kind);
    }

    return $s . ($ENV{TEST_NGINX_GLOBALS_HTTP} // '');
}


# a port for a number of 8000 to 8999: that number itself where it is free,
# else another one. A socket of the other protocol is held on it, as a lock
# against test files that run at the same time.

sub port {
    my ($number, %o) = @_;

    my $known = $ports{$number} //= _claim($number, $o{udp} ? 1 : 0);

    return $o{socket} ? $known->{lock} : $known->{port};
}


sub _claim {
    my ($number, $udp) = @_;

    my $bind = sub {
        my ($proto, $port) = @_;
        return IO::Socket::INET->new(
            Proto => $proto, LocalAddr => "127.0.0.1:$port",
            $proto eq 'tcp' ? (Listen => 1, ReuseAddr => 1) : ());
    };

    my ($real, $other) = $udp ? qw/ udp tcp / : qw/ tcp udp /;

    for my $try (0 .. 20) {
        my $port = $try ? $number - $number % 500 + int rand 500 : $number;
        my $lock = $bind->($other, $port) or next;
        $bind->($real, $port) or next;

        return { port => $port, lock => $lock };
    }

    die "no free port for $number\n";
}


# HTTP

sub http_get {
    my ($uri, %o) = @_;

    return http("GET $uri HTTP/1.0\r\nHost: localhost\r\n\r\n", %o);
}


sub http_head {
    my ($uri, %o) = @_;

    return http("HEAD $uri HTTP/1.0\r\nHost: localhost\r\n\r\n", %o);
}


sub http {
    my ($request, %o) = @_;

    my $s = http_start($request, %o);

    return $s if $o{start} or $o{aborted} or !defined $s;

    return http_end($s);
}


sub http_start {
    my ($request, %o) = @_;

    return _timed(sub {
        my $s = $o{socket} // IO::Socket::INET->new(
            Proto => 'tcp',
            PeerAddr => '127.0.0.1:' . port($o{SSL} ? 8443 : 8080),
            map { $_ => $o{$_} } grep { /^(?:Peer|Local)/ } keys %o)
            or die "connect to nginx: $!\n";

        if ($o{SSL}) {
            require IO::Socket::SSL;
            IO::Socket::SSL->start_SSL($s, SSL_verify_mode => 0,
                map { $_ => $o{$_} } grep { /^SSL_/ } keys %o)
                or die "TLS to nginx: $IO::Socket::SSL::SSL_ERROR\n";
        }

        log_out($request);
        $s->print($request);

        sleep $o{sleep} if $o{sleep};

        if (defined $o{body} && !$o{aborted}) {
            log_out($o{body});
            $s->print($o{body});
        }

        return $o{aborted} ? '' : $s;
    });
}


sub http_end {
    my ($s) = @_;

    my $reply = _timed(sub {
        local $/;
        my $all = $s->getline();
        $s->close();
        return $all;
    });

    log_in($reply) if defined $reply;

    return $reply;
}


sub http_content {
    my ($reply) = @_;

    return undef unless defined $reply && $reply =~ /\r\n\r\n(.*)\z/s;

    my $body = $1;

    return $body unless $reply =~ /^transfer-encoding:\s*chunked/mi;

    my $whole = '';

    while ($body =~ s/^([0-9a-f]+)[^\r\n]*\r\n//i && hex $1) {
        $whole .= substr($body, 0, hex $1, '');
        $body =~ s/^\r\n//;
    }

    return $whole;
}


sub _timed {
    my ($code) = @_;

    my $result;

    my $ok = eval {
        local $SIG{ALRM} = sub { die "timed out\n" };
        local $SIG{PIPE} = sub { die "closed by nginx\n" };
        alarm TIMEOUT;
        $result = $code->();
        alarm 0;
        1;
    };

    alarm 0;
    log_in("died: $@") unless $ok;

    return $ok ? $result : undef;
}


sub log_in { _log('<<', @_) }


sub log_out { _log('>>', @_) }


sub _log {
    my ($mark, $text) = @_;

    return unless $ENV{TEST_NGINX_VERBOSE} && defined $text;

    $text =~ s/([^\x20-\x7e\r\n])/sprintf '\\x%02x', ord $1/ge;
    $text =~ s/\r//g;
    Test::More::note(map { "$mark $_\n" } split /\n/, $text);
}


1;

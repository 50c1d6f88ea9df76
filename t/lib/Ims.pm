package Ims;

# What the tests of nginx-ims share beyond the harness: where things were
# built, a complete nginx.conf, keys and certificates, the pool manager, a
# core, tokens (good and bad), and waiting for a line in a log.
#
# A test begins so, and then runs with either Test::Nginx (see there):
#
#   BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }
#   use Ims;             # before Test::Nginx: it says which nginx
#   use Test::Nginx;
#
#   my $t = Test::Nginx->new()->has(qw/http/)->plan(3);
#   ims_keys($t);
#   ims_pool($t);
#   ims_core($t);
#   $t->write_file_expand('nginx.conf', ims_conf($t));
#   $t->run();
#
# Environment: IMS_BUILD, the folder of the build (default build/; relative
# to the repository), TEST_NGINX_BINARY.
#
# Ports: 8080 http, 8443 https, 8060 the core, 8070 the edge's own.

use strict;
use warnings;

use Cwd qw/ abs_path /;
use Digest::SHA qw/ hmac_sha256 /;
use Exporter qw/ import /;
use File::Basename qw/ dirname /;
use IO::Socket::INET;
use IO::Socket::UNIX;
use IPC::Open2;
use IPC::Open3;
use ImsWait;
use JSON::PP;
use MIME::Base64 qw/ encode_base64 encode_base64url decode_base64url /;
use POSIX qw/ WNOHANG /;
use Scalar::Util qw/ weaken /;
use Test::More ();
use Time::HiRes qw/ sleep time /;

our ($ROOT, $BUILD);

our @EXPORT = qw/
    ims_module ims_program ims_conf ims_conf_error ims_keys ims_cert
    ims_pool ims_pool_start ims_poolctl ims_core ims_core_rpc
    ims_udp_port ims_core_bindings ims_core_log ims_identity ims_jwt ims_claims
    ims_status ims_wait_log ims_count_log ims_run ims_spawn ims_kill ims_wait
    ims_owner ims_left
/;

BEGIN {
    $ROOT = abs_path(dirname(__FILE__) . '/../..');
    $BUILD = $ENV{IMS_BUILD} // 'build';
    $BUILD = "$ROOT/$BUILD" unless $BUILD =~ m{^/};

    $ENV{TEST_NGINX_BINARY} //= -x "$BUILD/nginx" ? "$BUILD/nginx"
                                                  : '/usr/sbin/nginx';

    # what nginx leaves to the system at its exit is no leak
    $ENV{ASAN_OPTIONS} //= 'detect_leaks=0';

    # Debian's daemons live there, where an ordinary user may not look
    $ENV{PATH} .= ':/usr/sbin:/sbin';
}


# The real library does its closing checks when the last reference to the
# object goes, which is too late where a named sub of the test holds one, and
# dies there if nginx never ran. Both are seen to here, for every object that
# this module meets; our own library knows for itself.

my @met;

sub _meet {
    my ($t) = @_;

    return if $t->can('_finish') || grep { $_->[0] && $_->[0] == $t } @met;

    push @met, [$t, $$];
    weaken($met[-1][0]);

    open my $f, '>>', $t->testdir() . '/error.log';
}


END {
    my $status = $?;

    for my $t (map { $_->[1] == $$ && $_->[0] ? $_->[0] : () } @met) {
        $t->DESTROY();
        bless $t, 'Ims::Finished';
    }

    $? = $status;
}


# files of the build; without them there is nothing to test

sub ims_module { return _built('ngx_http_ims_module.so') }


sub ims_program { return _built($_[0]) }


sub _built {
    my ($name) = @_;

    Test::More::BAIL_OUT("$BUILD/$name is not there: run make first")
        unless -e "$BUILD/$name";

    return "$BUILD/$name";
}


# A whole nginx.conf. Options, each text put at its place:
#   workers, user           master's (user: default root if it is root)
#   main, http, server      more of it
#   issuer                  lines added to the issuer block
#   issuers                 whole issuer blocks in place of ours
#   origins                 list (default: localhost on both ports, and
#                           http://localhost)
#   alg                     ES256, RS256, HS256
#   pool, lease_check, grace, flows, min_expires, drain_time (500ms: no
#                           test is to wait for it), drain_after
#   core                    servers of upstream core, text
#   token                   of ims_token (optional)
#   ws, identity            lines added to these locations
#   locations               more locations
#   ssl                     https or not (default: if ims_cert() was called)
#   advertise
#   udp                     1: ims_listen with "udp" beside the other one, at
#                           the same port, and ims_pass with it

sub ims_conf {
    my ($t, %o) = @_;

    _meet($t);

    my $dir = $t->testdir();
    my $user = $o{user} // ($> == 0 ? 'root' : undef);
    my $module = ims_module();

    mkdir "$dir/state";

    # no %%TEST_GLOBALS%%: the real library would load all dynamic modules
    # that Debian's nginx was configured with, installed or not. It gives
    # pid and error_log on the command line instead.

    my $globals = ($ENV{TEST_NGINX_GLOBALS} // '')
        . ($user ? "user $user;\n" : '')
        . "load_module $module;\n";

    my $listen_ssl = $o{ssl} // -e "$dir/localhost.crt" ? <<"    END" : '';
        listen              127.0.0.1:8443 ssl;
        ssl_certificate     $dir/localhost.crt;
        ssl_certificate_key $dir/localhost.key;
    END

    my $options = join '', map { "    $_->[0]  $_->[1];\n" }
        grep { defined $_->[1] } (
            ['ims_flows', $o{flows} // 1024],
            ['ims_lease_check', $o{lease_check}],
            ['ims_flow_grace', $o{grace}],
            ['ims_core_min_expires', $o{min_expires}],
            ['ims_drain_time', $o{drain_time} // '500ms'],
            ['ims_drain_after', $o{drain_after}],
        );

    # parts that a caller did not give
    my $pool = $o{pool} // 'web';
    my $issuers = $o{issuers} // _issuer($dir, %o);
    my %part = map { $_ => $o{$_} // '' }
        qw/ main http server identity ws locations /;
    my $workers = $o{workers} // 1;
    my $advertise = $o{advertise} // '127.0.0.1:8070';
    my $core = $o{core} // 'server 127.0.0.1:8060;';
    my $token = $o{token} // 'optional';
    my $udp = '';

    if ($o{udp}) {
        $part{http} .= "ims_listen 127.0.0.1:8070 udp advertise=$advertise;";
        $udp = ' udp';
        ims_udp_port(8070);
    }

    return <<"END";
$globals
worker_processes  $workers;
daemon off;
$part{main}

events {
    worker_connections  1024;
}

http {
    %%TEST_GLOBALS_HTTP%%

    ims_state_dir   $dir/state;
    ims_pool        dir=$dir/pool socket=$dir/pool.sock
                    wwsf_secret=$dir/secrets/wwsf.secret
                    edge_secret=$dir/secrets/edge.secret;
    ims_listen      127.0.0.1:8070 advertise=$advertise;
    ims_core_allow  127.0.0.1;
$options
$issuers
    $part{http}

    upstream core {
        $core
    }

    server {
        listen       127.0.0.1:8080;
$listen_ssl
        server_name  localhost;
        $part{server}

        location = /ims/identity {
            ims_identity       $pool issuer=site;
            ims_identity_user  \$remote_user;
            ims_identity_anonymous on;
            $part{identity}
        }

        location = /ims/ws {
            ims_pass           core$udp;
            ims_accept_issuer  site;
            ims_token          $token;
            $part{ws}
        }

        location = /ims/status {
            ims_status;
        }

        $part{locations}
    }
}
END
}


# The harness holds UDP at a port that it gave for TCP. A program under test may
# have that too, while others still find it taken: both sides say SO_REUSEADDR,
# and what is connected to nobody's port hears nothing.

sub ims_udp_port {
    my ($number) = @_;

    my $held = Test::Nginx::port($number, socket => 1);

    $held->sockopt(Socket::SO_REUSEADDR, 1);
    $held->connect(Socket::pack_sockaddr_in(1,
        Socket::inet_aton('127.0.0.1')));

    return Test::Nginx::port($number);
}


sub _issuer {
    my ($dir, %o) = @_;

    my $alg = $o{alg} // 'ES256';
    my $pool = $o{pool} // 'web';
    my $more = $o{issuer} // '';

    my $key = $alg eq 'HS256' ? "$dir/site.secret"
                              : "$dir/site.pub.pem $dir/site.key.pem";

    my $origins = join ' ', @{$o{origins} // [
        qw{ http://localhost http://localhost:%%PORT_8080%%
            https://localhost:%%PORT_8443%% } ]};

    return <<"END";
    ims_issuer site {
        iss     https://localhost;
        aud     ims.example;
        alg     $alg;
        key     k1 $key;
        pool    $pool;
        origin  $origins;
        $more
    }
END
}


# what "nginx -t" says about a configuration: (true if it is good, output).
# Nothing of it gets into the test's own error.log.

sub ims_conf_error {
    my ($t, $text) = @_;

    _meet($t);

    my $dir = $t->testdir();
    my $name = 'conftest.' . int rand 1e9;

    $t->write_file_expand("$name.conf", $text);

    my ($status, $out) = ims_run($ENV{TEST_NGINX_BINARY}, '-t', '-p', "$dir/",
        '-c', "$name.conf", '-e', "$dir/$name.log",
        '-g', "pid $dir/$name.pid; error_log $dir/$name.log info;");

    return ($status == 0, $out);
}


# the issuer's key pair and the secrets of the pool manager; %o: alg, name

sub ims_keys {
    my ($t, %o) = @_;

    _meet($t);

    my $dir = $t->testdir();
    my $alg = $o{alg} // 'ES256';
    my $name = $o{name} // 'site';

    my @kind = $alg eq 'RS256'
        ? qw/ -algorithm RSA -pkeyopt rsa_keygen_bits:2048 /
        : qw/ -algorithm EC -pkeyopt ec_paramgen_curve:P-256 /;

    if ($alg eq 'HS256') {
        $t->write_file("$name.secret", _random(32));

    } else {
        _must('openssl', 'genpkey', @kind, '-out', "$dir/$name.key.pem");
        _must('openssl', 'pkey', '-in', "$dir/$name.key.pem", '-pubout',
              '-out', "$dir/$name.pub.pem");
    }

    mkdir "$dir/secrets", 0700;
    for my $role (qw/ wwsf edge /) {
        next if -e "$dir/secrets/$role.secret";
        $t->write_file("secrets/$role.secret", "$role " . _random(24) . "\n");
        chmod 0600, "$dir/secrets/$role.secret";
    }

    return $t;
}


# a certificate of localhost for https

sub ims_cert {
    my ($t) = @_;

    my $dir = $t->testdir();

    _must('openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt',
          'ec_paramgen_curve:P-256', '-nodes', '-days', 7,
          '-subj', '/CN=localhost', '-addext',
          'subjectAltName=DNS:localhost,IP:127.0.0.1',
          '-keyout', "$dir/localhost.key", '-out', "$dir/localhost.crt");

    return $t;
}


# The pool manager with pool web and identities sip:web-000001@ims.example
# and on. %o: size (20), pool, home, args (of "pool create"). Its process id
# is returned; ims_pool_start() starts it again on the same data.

sub ims_pool {
    my ($t, %o) = @_;

    my $pid = ims_pool_start($t);

    my $pool = $o{pool} // 'web';
    my $home = $o{home} // 'ims.example';
    my $range = sprintf '[000001-%06d]', $o{size} // 20;

    _poolctl_must($t, 'pool', 'create', $pool, $home, @{$o{args} // []});
    _poolctl_must($t, 'import', $pool, '--range', "sip:$pool-$range\@$home",
                  '--display', "Web user $range");

    return $pid;
}


sub ims_pool_start {
    my ($t, @args) = @_;

    _meet($t);

    my $dir = $t->testdir();

    # the socket of one that was killed would look like a living one
    unlink "$dir/pool.sock";

    my $pid = ims_spawn($t, 'pool.log', ims_program('ims-poolmgr'),
        '--dir', "$dir/pool", '--socket', "$dir/pool.sock",
        '--secrets', "$dir/secrets", '--volatile',
        $> == 0 ? qw/ --user root --group root / : (), @args);

    ims_wait(10, sub { IO::Socket::UNIX->new(Peer => "$dir/pool.sock") })
        or die "the pool manager did not start:\n"
               . (eval { $t->read_file('pool.log') } // '') . "\n";

    return $pid;
}


# (exit status, output) of ims-poolctl; with --json its output is decoded

sub ims_poolctl {
    my ($t, @args) = @_;

    my ($status, $out) = ims_run(ims_program('ims-poolctl'),
        '-s', $t->testdir() . '/pool.sock', @args);

    my $json = (grep { $_ eq '--json' } @args)
        ? eval { decode_json($out) } : undef;

    return ($status, $json // $out);
}


sub _poolctl_must {
    my ($t, @args) = @_;

    my ($status, $out) = ims_poolctl($t, @args);

    die "ims-poolctl @args: $out\n" if $status != 0;
}


# Kamailio as the core, from conf/kamailio. %o: port (the real number;
# default that of 8060), name, defines (list, "NAME=value"), udp. Its process
# id is returned.

sub ims_core {
    my ($t, %o) = @_;

    _meet($t);

    my $port = $o{port} // Test::Nginx::port(8060);
    my $name = $o{name} // 'core';
    my $dir = $t->testdir() . "/$name";

    mkdir $dir;
    unlink "$dir/rpc.sock";

    if ($o{udp}) {
        ims_udp_port(8060) unless $o{port};
        push @{$o{defines}}, "CORE_LISTEN_UDP=udp:127.0.0.1:$port",
            'CORE_TRANSPORT=udp';
    }

    my $pid = ims_spawn($t, "$name.log", 'kamailio',
        '-f', "$ROOT/conf/kamailio/kamailio.cfg", '-DD', '-E',
        '-w', $dir, '-Y', $dir, '-P', "$dir/pid", '-m', 32, '-M', 8,
        '-A', "CORE_LISTEN=tcp:127.0.0.1:$port",
        '-A', "CORE_HOST=127.0.0.1:$port", '-A', 'WITH_TRACE',
        map { ('-A', $_) } @{$o{defines} // []});

    ims_wait(10, sub {
        -S "$dir/rpc.sock" && IO::Socket::INET->new(
            Proto => 'tcp', PeerAddr => "127.0.0.1:$port");
    }) or die "the core did not start:\n" . $t->read_file("$name.log");

    return $pid;
}


# the result of a JSON-RPC call to it

sub ims_core_rpc {
    my ($t, $method, @params) = @_;

    my $server = $t->testdir() . '/core/rpc.sock';
    my $own = $t->testdir() . "/rpc.$$." . int rand 1e9;
    my $s = IO::Socket::UNIX->new(Type => Socket::SOCK_DGRAM,
                                  Local => $own, Peer => $server)
        or die "core: $!\n";

    $s->send(encode_json({ jsonrpc => '2.0', method => $method, id => 1,
                           params => \@params }));
    $s->recv(my $answer, 1 << 20);
    unlink $own;

    return decode_json($answer)->{result};
}


# { aor => [ { contact, path, expires, ... } ] } as the core has it

sub ims_core_bindings {
    my ($t) = @_;

    my %found;

    for my $domain (@{ims_core_rpc($t, 'ul.dump')->{Domains}}) {
        for my $aor (map { $_->{Info} } @{$domain->{Domain}{AoRs}}) {
            push @{$found{$aor->{AoR}}}, map { {
                contact => $_->{Address}, path => $_->{Path},
                expires => $_->{Expires}, call_id => $_->{'Call-ID'},
                instance => $_->{Instance}, reg_id => $_->{'Reg-Id'},
            } } map { $_->{Contact} } @{$aor->{Contacts}};
        }
    }

    return \%found;
}


# the requests that the core got, as text, in order

sub ims_core_log {
    my ($t) = @_;

    return $t->read_file('core.log') =~ /got from \S+\n(.*?\r\n\r\n)/gs;
}


# An HTTP request to /ims/identity. %o: method (POST), user, origin (undef:
# none), cookie, query, uri, headers (lines), port, host. The answer:
# { status, headers, cookie, json, body }

sub ims_identity {
    my (%o) = @_;

    my $method = $o{method} // 'POST';
    my $uri = ($o{uri} // '/ims/identity')
        . (defined $o{query} ? "?$o{query}" : '');
    my $origin = exists $o{origin} ? $o{origin} : 'http://localhost';
    my $host = $o{host} // 'localhost';

    my @lines = (
        "$method $uri HTTP/1.0", "Host: $host",
        (defined $origin ? "Origin: $origin" : ()),
        (defined $o{user}
            ? 'Authorization: Basic ' . encode_base64("$o{user}:", '') : ()),
        (defined $o{cookie} ? "Cookie: $o{cookie}" : ()),
        @{$o{headers} // []}, '', '',
    );

    my $reply = Test::Nginx::http(join("\r\n", @lines),
        $o{port} ? (PeerAddr => "127.0.0.1:$o{port}") : ())
        // return { status => 0, headers => '', body => '' };

    my ($head, $body) = split /\r\n\r\n/, $reply, 2;
    my ($status) = $head =~ m{^HTTP/1\.\d (\d+)};
    my ($cookie) = $head =~ /^Set-Cookie:\s*([^;\r\n]+)/mi;

    return { status => $status, headers => $head, body => $body // '',
             cookie => $cookie, json => scalar eval { decode_json($body) } };
}


# the claims of a token, unverified

sub ims_claims {
    my ($token) = @_;

    return decode_json(decode_base64url((split /\./, $token)[1]));
}


# A token of our own making: header and claims as hashes (or as text, for
# what JSON would not let through), signed by a file: a private key (ES256,
# RS256), or a secret (HS256); undef: an empty signature.

sub ims_jwt {
    my ($header, $claims, $key, %o) = @_;

    my $json = JSON::PP->new->canonical;
    my $alg = $o{alg} // (ref $header ? $header->{alg} : 'none');
    my $input = join '.', map {
        encode_base64url(ref $_ ? $json->encode($_) : $_, '')
    } $header, $claims;

    return "$input." unless defined $key;

    my $sig = $alg eq 'HS256' ? hmac_sha256($input, _slurp($key))
        : $alg eq 'ES256' ? _der_to_raw(_openssl_sign($key, $input))
        : _openssl_sign($key, $input);

    return "$input." . encode_base64url($sig);
}


sub _openssl_sign {
    my ($key, $input) = @_;

    my $pid = open2(my $out, my $in, 'openssl', 'dgst', '-sha256',
                    '-sign', $key, '-binary');
    binmode $out;
    print $in $input;
    close $in;
    local $/;
    my $sig = <$out>;
    waitpid $pid, 0;

    die "openssl could not sign with $key\n" if $? != 0;

    return $sig;
}


# r and s of a DER signature, 32 bytes each (RFC 7518 3.4)

sub _der_to_raw {
    my ($der) = @_;

    my ($r, $rest) = unpack 'x3 C/a a*', $der;
    my ($s) = unpack 'x C/a', $rest;

    return join '', map { substr "\0" x 32 . $_, -32 } $r, $s;
}


sub ims_status {
    my ($uri) = @_;

    my $reply = Test::Nginx::http_get($uri // '/ims/status') // return undef;
    my ($body) = $reply =~ /\r\n\r\n(.*)/s;

    return eval { decode_json($body) } // $body;
}


# nginx has ended, or is about to, by a signal of the test's own. Neither our
# library nor nginx's is to look for it: theirs would die for lack of a
# nginx.pid.

sub ims_left {
    my ($t, $master) = @_;

    ims_wait(60, sub { waitpid($master, WNOHANG) })
        or ims_kill($master, 'KILL');

    $t->{master} = undef;
    $t->{_started} = 0;
}


# Waits until a pattern is in a log of the test's directory; true if so.
# %o: count, seconds, file (error.log)

sub ims_wait_log {
    my ($t, $pattern, %o) = @_;

    my $count = $o{count} // 1;

    return ims_wait($o{seconds} // 8, sub {
        ims_count_log($t, $pattern, $o{file}) >= $count;
    });
}


sub ims_count_log {
    my ($t, $pattern, $file) = @_;

    my $text = eval { $t->read_file($file // 'error.log') } // '';
    my $n = () = $text =~ /$pattern/g;

    return $n;
}


sub ims_wait {
    my ($seconds, $test) = @_;

    my $end = time() + patience($seconds);

    while (1) {
        my $rv = $test->();
        return $rv if $rv;
        return undef if time() > $end;
        sleep 0.05;
    }
}


# runs a program to its end: (exit status, stdout and stderr together)

sub ims_run {
    my (@command) = @_;

    my $pid = open3(my $in, my $out, undef, @command);
    close $in;
    local $/;
    my $text = <$out>;
    waitpid $pid, 0;

    return ($? & 127 ? 128 + ($? & 127) : $? >> 8, $text // '');
}


# A daemon of the test, its output into a log: process id. It is stopped
# with the test like any other.

sub ims_spawn {
    my ($t, $log, @command) = @_;

    my $file = $t->testdir() . "/$log";
    my $note = "$file.pid";

    unlink $note;

    $t->run_daemon(sub {
        open STDIN, '<', '/dev/null';
        open STDOUT, '>>', $file;
        open STDERR, '>&', \*STDOUT;

        # written and then named, so that it is read whole
        open my $f, '>', "$note.new";
        print $f $$;
        close $f;
        rename "$note.new", $note;

        no warnings 'exec';
        exec { $command[0] } @command;
        print STDERR "exec $command[0]: $!\n";
        POSIX::_exit(127);
    });

    my $pid = ims_wait(5, sub { -e $note && _slurp($note) })
        or die "$command[0] did not start\n";

    unlink $note;

    return $pid;
}


# The nginx process at the other end of a connection of ours; undef if there is
# none. ss finds it in /proc, and may miss it while processes come and go.

sub ims_owner {
    my ($socket) = @_;

    my $filter = 'sport = :' . $socket->peerport() . ' and dport = :'
                 . $socket->sockport();

    for (1 .. 10) {
        my (undef, $out) = ims_run('ss', '-Htnp', $filter);
        return $1 if $out =~ /"nginx",pid=(\d+)/;
        sleep 0.05;
    }

    return undef;
}


# a signal to a process that ims_spawn() started, and its end awaited

sub ims_kill {
    my ($pid, $signal) = @_;

    kill $signal // 'TERM', $pid;

    return ims_wait(10, sub { waitpid($pid, WNOHANG) != 0 });
}


sub _must {
    my (@command) = @_;

    my ($status, $out) = ims_run(@command);

    die "@command: $out\n" if $status != 0;
}


sub _slurp {
    my ($file) = @_;

    open my $f, '<:raw', $file or die "$file: $!\n";
    local $/;

    return scalar <$f>;
}


# as many random bytes, in hex

sub _random {
    my ($n) = @_;

    open my $f, '<:raw', '/dev/urandom' or die "urandom: $!\n";
    read $f, my ($bytes), $n;

    return unpack 'H*', $bytes;
}


1;
